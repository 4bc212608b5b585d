"""The settings of the door."""

from pathlib import Path

import pytest

from tokentide.console.ingest import IngestSettings
from tokentide.schemas import SettingsError


def test_every_variable_is_read() -> None:
    settings = IngestSettings.from_env(
        {
            "TOKENTIDE_BROKER": "kafka:9092",
            "TOKENTIDE_TOPIC_EVENTS": "events",
            "TOKENTIDE_INGEST_HOST": "::1",
            "TOKENTIDE_INGEST_PORT": "1234",
            "TOKENTIDE_INGEST_KEY": "a-secret-of-some-length",
            "TOKENTIDE_INGEST_KEYS_FILE": "keys.toml",
            "TOKENTIDE_INGEST_MAX_BODY_BYTES": "2048",
            "TOKENTIDE_INGEST_MAX_IN_FLIGHT_BYTES": "4096",
            "TOKENTIDE_INGEST_ACK_TIMEOUT_SECONDS": "2.5",
            "TOKENTIDE_MAX_FUTURE_SECONDS": "60",
        }
    )

    assert settings == IngestSettings(
        kafka=settings.kafka,
        topic="events",
        host="::1",
        port=1234,
        key="a-secret-of-some-length",
        keys_file=Path("keys.toml"),
        max_body_bytes=2048,
        max_in_flight_bytes=4096,
        ack_timeout_seconds=2.5,
        max_future_seconds=60,
    )
    assert settings.kafka.broker == "kafka:9092"


def test_arguments_win_over_variables() -> None:
    variables = {"TOKENTIDE_INGEST_HOST": "::1", "TOKENTIDE_INGEST_PORT": "1", "TOKENTIDE_BROKER": "a:1"}

    settings = IngestSettings.from_env(variables, broker="b:2", host="127.0.0.1", port=0)

    assert (settings.kafka.broker, settings.host, settings.port) == ("b:2", "127.0.0.1", 0)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        IngestSettings.from_env({"TOKENTIDE_INGEST_PORT": "x", "TOKENTIDE_INGEST_ACK_TIMEOUT_SECONDS": "0"})

    assert "TOKENTIDE_INGEST_PORT='x'" in str(caught.value)
    assert "TOKENTIDE_INGEST_ACK_TIMEOUT_SECONDS='0' must be at least 0.1" in str(caught.value)


def test_the_largest_body_must_fit_in() -> None:
    with pytest.raises(SettingsError, match="the largest body would never get in"):
        IngestSettings.from_env({"TOKENTIDE_INGEST_MAX_IN_FLIGHT_BYTES": "4096"})


def test_events_are_sent_as_the_sdk_sends_them_within_the_time_of_a_request() -> None:
    properties = IngestSettings(ack_timeout_seconds=0.5).producer().librdkafka()

    assert properties["acks"] == "all"
    assert properties["enable.idempotence"] is True
    assert properties["partitioner"] == "murmur2_random"
    assert properties["message.timeout.ms"] == "500"
