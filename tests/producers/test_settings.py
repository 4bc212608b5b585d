"""The settings of a producer: from arguments, and from the environment."""

from typing import Any

import pytest

from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings, SettingsError


def test_an_empty_environment_gives_the_defaults() -> None:
    assert ProducerSettings.from_env({}) == ProducerSettings()


def test_every_setting_is_read_from_the_environment() -> None:
    settings = ProducerSettings.from_env(
        {
            "TOKENTIDE_BROKER": "kafka-1:9092,kafka-2:9092",
            "TOKENTIDE_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
            "TOKENTIDE_TOPIC_EVENTS": "llm.usage",
            "TOKENTIDE_PRODUCER_SOURCE": "shop",
            "TOKENTIDE_PRODUCER_LINGER_MS": "50",
            "TOKENTIDE_PRODUCER_QUEUE_EVENTS": "10",
            "TOKENTIDE_PRODUCER_FALLBACK_EVENTS": "0",
            "TOKENTIDE_PRODUCER_DELIVERY_TIMEOUT_SECONDS": "60",
            "TOKENTIDE_PRODUCER_EXIT_TIMEOUT_SECONDS": "1.5",
            "TOKENTIDE_PRODUCER_SPOOL_DIR": "/var/spool/tokentide",
            "TOKENTIDE_PRODUCER_SPOOL_BYTES": "8388608",
            "TOKENTIDE_PRODUCER_SPOOL_MAX_AGE_SECONDS": "3600",
            "TOKENTIDE_PRODUCER_SPOOL_FSYNC_SECONDS": "0.5",
        }
    )

    assert settings == ProducerSettings(
        kafka=KafkaSettings(broker="kafka-1:9092,kafka-2:9092", security_protocol="SASL_SSL"),
        topic="llm.usage",
        source="shop",
        linger_ms=50,
        queue_events=10,
        fallback_events=0,
        delivery_timeout_seconds=60,
        exit_timeout_seconds=1.5,
        spool_dir="/var/spool/tokentide",
        spool_bytes=8_388_608,
        spool_max_age_seconds=3600,
        spool_fsync_seconds=0.5,
    )


def test_all_problems_of_the_environment_are_named_at_once() -> None:
    variables = {"TOKENTIDE_PRODUCER_LINGER_MS": "soon", "TOKENTIDE_PRODUCER_QUEUE_EVENTS": "0"}

    with pytest.raises(SettingsError) as failure:
        ProducerSettings.from_env(variables)

    assert str(failure.value) == (
        "TOKENTIDE_PRODUCER_LINGER_MS='soon' is not a whole number; "
        "TOKENTIDE_PRODUCER_QUEUE_EVENTS='0' must be at least 1"
    )


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"topic": ""}, "topic must not be empty"),
        ({"source": ""}, "source must not be empty"),
        ({"kafka": KafkaSettings(broker="")}, "broker '' must be host:port"),
        ({"kafka": KafkaSettings(broker="a:1,,b:1")}, "broker 'a:1,,b:1' must be host:port"),
        ({"linger_ms": -1}, "linger_ms = -1 must be at least 0"),
        ({"linger_ms": 900_001}, "linger_ms = 900001 must be at most 900000"),
        ({"queue_events": 0}, "queue_events = 0 must be at least 1"),
        ({"fallback_events": -1}, "fallback_events = -1 must be at least 0"),
        ({"delivery_timeout_seconds": 0}, "delivery_timeout_seconds = 0 must be at least 1"),
        ({"exit_timeout_seconds": float("nan")}, "exit_timeout_seconds = nan must be at least 0"),
        ({"spool_bytes": -1}, "spool_bytes = -1 must be at least 0"),
        ({"spool_max_age_seconds": 0}, "spool_max_age_seconds = 0 must be at least 1"),
        ({"spool_fsync_seconds": -1}, "spool_fsync_seconds = -1 must be at least 0"),
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        ProducerSettings(**wrong)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (ProducerSettings(extra={"no.such": "1"}), 'No such configuration property: "no.such"'),
        (ProducerSettings(kafka=KafkaSettings(security_protocol="TELNET")), '"TELNET"'),
        (ProducerSettings(extra={"retries": "many"}), "retries"),
    ],
)
def test_what_librdkafka_refuses_is_refused_at_construction(settings: ProducerSettings, problem: str) -> None:
    with pytest.raises(SettingsError, match="librdkafka refuses the settings") as failure:
        UsageProducer(settings)

    assert problem in str(failure.value)


def test_without_settings_the_environment_is_read(nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENTIDE_PRODUCER_FALLBACK_EVENTS", "many")

    with pytest.raises(SettingsError, match="TOKENTIDE_PRODUCER_FALLBACK_EVENTS"):
        UsageProducer(broker=nowhere)


def test_extra_properties_win_over_ours() -> None:
    settings = ProducerSettings(extra={"compression.type": "zstd"})

    properties = settings.librdkafka()

    assert properties["compression.type"] == "zstd"
    assert properties["enable.idempotence"] is True
    assert properties["acks"] == "all"


@pytest.mark.parametrize(("spool", "timeout_ms"), [(None, 0), ("/var/spool/tokentide", 0), ("off", 300_000)])
def test_only_without_a_spool_an_event_is_given_up(spool: str | None, timeout_ms: int) -> None:
    assert ProducerSettings(spool_dir=spool).librdkafka()["message.timeout.ms"] == timeout_ms


@pytest.mark.parametrize(("text", "folder"), [("OFF", "off"), ("~/spool", "/home/ada/spool"), ("", None)])
def test_a_spool_folder_means_what_a_shell_would_make_of_it(
    text: str, folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")

    settings = ProducerSettings.from_env({"TOKENTIDE_PRODUCER_SPOOL_DIR": text})

    assert settings.spool_dir == folder
    assert settings.has_spool == (folder != "off")
