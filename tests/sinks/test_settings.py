"""The settings of the sink, from the environment."""

from pathlib import Path

import pytest

from tokentide.schemas import KafkaSettings, SettingsError, TopicNames
from tokentide.sinks import BatchSettings, ClickHouseSettings, SinkSettings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert SinkSettings.from_env({}) == SinkSettings()


def test_every_setting_is_read_from_the_environment() -> None:
    settings = SinkSettings.from_env(
        {
            "TOKENTIDE_BROKER": "kafka:9092",
            "TOKENTIDE_TOPIC_PRICED": "llm.priced",
            "TOKENTIDE_CLICKHOUSE_URL": "https://clickhouse:8443/proxy",
            "TOKENTIDE_CLICKHOUSE_USER": "writer",
            "TOKENTIDE_CLICKHOUSE_PASSWORD": "secret",
            "TOKENTIDE_CLICKHOUSE_DATABASE": "spend",
            "TOKENTIDE_CLICKHOUSE_CONNECT_TIMEOUT_SECONDS": "7",
            "TOKENTIDE_CLICKHOUSE_ANSWER_TIMEOUT_SECONDS": "8",
            "TOKENTIDE_SINK_BATCH_ROWS": "500",
            "TOKENTIDE_SINK_BATCH_BYTES": "1000000",
            "TOKENTIDE_SINK_BATCH_SECONDS": "0.25",
            "TOKENTIDE_SINK_ID": "other-sink",
            "TOKENTIDE_WORKER": "sink-7",
            "TOKENTIDE_WORK_DIR": "/var/lib/tokentide",
            "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "6.5",
        }
    )

    assert settings == SinkSettings(
        kafka=KafkaSettings(broker="kafka:9092"),
        topics=TopicNames(priced="llm.priced"),
        clickhouse=ClickHouseSettings("https://clickhouse:8443/proxy", "writer", "secret", "spend", 7, 8),
        batch=BatchSettings(rows=500, bytes=1_000_000, seconds=0.25),
        sink_id="other-sink",
        worker="sink-7",
        work_dir=Path("/var/lib/tokentide"),
        session_timeout_seconds=6.5,
    )


def test_all_problems_of_the_environment_are_named_at_once() -> None:
    variables = {
        "TOKENTIDE_CLICKHOUSE_URL": "clickhouse:8123",
        "TOKENTIDE_SINK_BATCH_ROWS": "0",
        "TOKENTIDE_SESSION_TIMEOUT_SECONDS": "long",
    }

    with pytest.raises(SettingsError) as failure:
        SinkSettings.from_env(variables)

    assert str(failure.value) == (
        "TOKENTIDE_CLICKHOUSE_URL must look like http://127.0.0.1:8123 or https://host:8443; "
        "TOKENTIDE_SINK_BATCH_ROWS='0' must be at least 1; "
        "TOKENTIDE_SESSION_TIMEOUT_SECONDS='long' is not a number"
    )


@pytest.mark.parametrize(
    "url", ["", "localhost", "tcp://host:9000", "http://", "http://host:0", "http://host:http", "http://[::1"]
)
def test_a_url_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(SettingsError, match=r"must look like http://127\.0\.0\.1:8123"):
        ClickHouseSettings(url=url)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(SettingsError, match="TOKENTIDE_CLICKHOUSE_PASSWORD") as failure:
        ClickHouseSettings(url="http://writer:hunter2@host:8123")

    assert "hunter2" not in str(failure.value)
