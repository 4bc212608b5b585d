"""How topics must be made, and where their names come from."""

import pytest

from tokentide.schemas import Environment, SettingsError, TopicNames, changelog_name, plan_topics
from tokentide.schemas.kafka import KafkaSettings


def test_every_topic_is_planned_once() -> None:
    plans = plan_topics(TopicNames(), "meter", 4)

    names = [plan.name for plan in plans]
    assert len(names) == len(set(names))
    assert {
        *vars_of(TopicNames()),
        changelog_name("meter", "spend"),
        changelog_name("meter", "budgets"),
    } == set(names)


def vars_of(names: TopicNames) -> set[str]:
    return {getattr(names, name) for name in TopicNames.__dataclass_fields__}


def test_compacted_topics_keep_old_records_for_an_hour() -> None:
    """Or a frozen worker that wakes up could win by compaction."""
    compacted = [
        plan for plan in plan_topics(TopicNames(), "meter", 4) if plan.config["cleanup.policy"] == "compact"
    ]

    assert len(compacted) >= 4
    assert {plan.config["min.compaction.lag.ms"] for plan in compacted} == {"3600000"}


def test_overrides_of_prices_are_never_compacted_nor_emptied() -> None:
    """Or the audit could not say which of them a row was priced with."""
    [prices] = [plan for plan in plan_topics(TopicNames(), "meter", 4) if plan.name == "usage.prices"]

    assert prices.partitions == 1
    assert prices.config["cleanup.policy"] == "delete"
    assert (prices.config["retention.ms"], prices.config["retention.bytes"]) == ("-1", "-1")


def test_a_refused_record_fits_beside_its_base64() -> None:
    size = {
        plan.name: int(plan.config["max.message.bytes"]) for plan in plan_topics(TopicNames(), "meter", 4)
    }

    assert size["usage.rejected"] > size["usage.events"] * 4 / 3


def test_names_are_read_from_the_environment() -> None:
    names = TopicNames.read(Environment({"TOKENTIDE_TOPIC_EVENTS": "llm", "TOKENTIDE_TOPIC_ALERTS": ""}))

    assert (names.events, names.alerts) == ("llm", "usage.alerts")


def test_all_problems_of_the_environment_are_told_at_once() -> None:
    environment = Environment({"A": "x", "B": "-1", "C": "nan", "D": "7", "E": "1.5"})

    values = (
        environment.whole("A", 1),
        environment.whole("B", 2),
        environment.number("C", 3.0),
        environment.whole("D", 4),
        environment.number("E", 5.0),
    )

    assert values == (1, 2, 3.0, 7, 1.5)
    with pytest.raises(
        SettingsError, match=r"A='x' is not a whole number; B='-1' must be at least 0; C='nan'"
    ):
        environment.check()


def test_an_environment_without_problems_passes() -> None:
    environment = Environment({"A": "1"})
    environment.whole("A", 0)

    environment.check()


def test_librdkafka_is_given_only_what_is_set() -> None:
    settings = KafkaSettings.read(
        Environment({"TOKENTIDE_BROKER": "kafka:9092", "TOKENTIDE_KAFKA_SECURITY_PROTOCOL": "sasl_ssl"})
    )

    assert settings.librdkafka() == {"bootstrap.servers": "kafka:9092", "security.protocol": "SASL_SSL"}
