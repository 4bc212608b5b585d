"""The settings of the command: from variables and options, and handed on to child processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import KafkaSettings, SettingsError, TopicNames
from tokentide.sinks import ClickHouseSettings

WORDS = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=30)
OPTIONAL = st.none() | WORDS


@given(
    st.builds(
        ConsoleSettings,
        kafka=st.builds(
            KafkaSettings,
            broker=WORDS,
            security_protocol=WORDS.map(str.upper),
            sasl_mechanism=OPTIONAL,
            sasl_username=OPTIONAL,
            sasl_password=OPTIONAL,
            ssl_ca_location=OPTIONAL,
        ),
        topics=st.builds(TopicNames, **{name: WORDS for name in TopicNames.__dataclass_fields__}),
        clickhouse=st.builds(
            ClickHouseSettings,
            url=st.just("https://host:8443/path"),
            user=WORDS,
            password=st.just("") | WORDS,
            database=WORDS,
        ),
        meter_id=WORDS,
        sink_id=WORDS,
        partitions=st.integers(1, 10_000),
    )
)
def test_a_child_process_reads_the_same_settings_again(settings: ConsoleSettings) -> None:
    environment = settings.environment()

    assert ConsoleSettings.from_env(environment) == settings
    assert environment.keys() <= ConsoleSettings.variable_names()


def test_an_option_wins_over_its_variable() -> None:
    settings = ConsoleSettings.from_env(
        {
            "TOKENTIDE_BROKER": "a:1",
            "TOKENTIDE_CLICKHOUSE_URL": "http://a:1",
            "TOKENTIDE_PARTITIONS": "2",
            "TOKENTIDE_KAFKA_SASL_USERNAME": "ann",
        },
        broker="b:1",
        clickhouse_url="http://b:1",
        partitions=3,
    )

    assert settings.kafka == KafkaSettings("b:1", sasl_username="ann")
    assert settings.clickhouse == ClickHouseSettings("http://b:1")
    assert settings.partitions == 3


@pytest.mark.parametrize("partitions", [0, -1])
def test_partitions_are_at_least_one(partitions: int) -> None:
    with pytest.raises(SettingsError, match=f"--partitions must be at least 1, not {partitions}"):
        ConsoleSettings.from_env({}, partitions=partitions)
