"""`tokentide topics init` on a real Kafka."""

import json
from collections.abc import Mapping

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic
from support.commands import run

from tokentide.console.topics import differing_config

YEAR_MS = str(365 * 86_400_000)


def admin(variables: Mapping[str, str]) -> AdminClient:
    return AdminClient({"bootstrap.servers": variables["TOKENTIDE_BROKER"]})


def change(variables: Mapping[str, str], topic: str, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    client = admin(variables)
    for answer in client.incremental_alter_configs([resource]).values():
        answer.result(20)


def setting(variables: Mapping[str, str], topic: str, name: str) -> str:
    client = admin(variables)
    (answer,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return str(answer.result(20)[name].value)


def test_init_creates_every_topic_and_a_second_run_changes_nothing(on_kafka: dict[str, str]) -> None:
    first = run("topics", "init", "--partitions", "2", environment=on_kafka)
    second = run("topics", "init", "--partitions", "2", "--json", environment=on_kafka)

    names = [name for key, name in on_kafka.items() if key.startswith("TOKENTIDE_TOPIC_")]
    changelogs = [f"{on_kafka['TOKENTIDE_METER_ID']}-{table}-changelog" for table in ("spend", "budgets")]
    assert (first.code, first.err) == (0, "")
    assert sorted(first.out.split()[1::2]) == sorted(names + changelogs)
    assert set(first.out.split()[::2]) == {"created"}
    assert json.loads(second.out) == {"created": [], "altered": [], "unchanged": first.out.split()[1::2]}
    existing = admin(on_kafka).list_topics(timeout=10).topics
    single = {on_kafka[f"TOKENTIDE_TOPIC_{name}"] for name in ("BUDGETS", "PRICES", "CREDITS")}
    assert {name: len(existing[name].partitions) for name in names} == {
        name: 1 if name in single else 2 for name in names
    }


def test_another_number_of_partitions_is_refused_and_nothing_is_changed(on_kafka: dict[str, str]) -> None:
    events = on_kafka["TOKENTIDE_TOPIC_EVENTS"]
    client = admin(on_kafka)
    client.create_topics([NewTopic(events, 3, 1)])[events].result(20)

    refused = run("topics", "init", environment=on_kafka)

    assert refused.code == 2
    assert refused.out == ""
    assert refused.err == (
        f"{events} has 3 and not 4 partition(s); run with the number the topics have (--partitions or "
        "TOKENTIDE_PARTITIONS), or use new topic names (TOKENTIDE_TOPIC_...) and another TOKENTIDE_METER_ID: "
        "partitions of a live pipeline cannot change, and nothing was changed.\n"
    )
    assert on_kafka["TOKENTIDE_TOPIC_PRICED"] not in admin(on_kafka).list_topics(timeout=10).topics


def test_settings_that_differ_are_set_and_longer_retention_is_left_alone(on_kafka: dict[str, str]) -> None:
    events, limits = on_kafka["TOKENTIDE_TOPIC_EVENTS"], on_kafka["TOKENTIDE_TOPIC_LIMITS"]
    assert run("topics", "init", environment=on_kafka).code == 0
    change(on_kafka, events, "retention.ms", YEAR_MS)
    change(on_kafka, events, "message.timestamp.type", "LogAppendTime")
    change(on_kafka, limits, "cleanup.policy", "delete")

    mended = run("topics", "init", environment=on_kafka)

    changed = [line for line in mended.out.splitlines() if line.startswith("changed")]
    assert changed == [
        f"changed  {events}: message.timestamp.type LogAppendTime -> CreateTime",
        f"changed  {limits}: cleanup.policy delete -> compact",
    ]
    assert setting(on_kafka, events, "retention.ms") == YEAR_MS
    assert setting(on_kafka, events, "message.timestamp.type") == "CreateTime"
    assert setting(on_kafka, limits, "cleanup.policy") == "compact"


def test_a_topic_that_kafka_refuses_is_named_with_its_reason(on_kafka: dict[str, str]) -> None:
    odd = run("topics", "init", environment=on_kafka | {"TOKENTIDE_TOPIC_EVENTS": "usage events"})
    many = run("topics", "init", "--replication", "3", environment=on_kafka)

    assert odd.code == 2
    assert odd.err.startswith("Kafka refuses to create usage events: Topic name is invalid")
    assert many.code == 2
    assert "replication factor of 3" in many.err


@pytest.mark.parametrize(
    ("actual", "planned", "differs"),
    [
        ({"cleanup.policy": "compact,delete"}, {"cleanup.policy": "delete,compact"}, False),
        ({"cleanup.policy": "compact"}, {"cleanup.policy": "delete"}, True),
        ({}, {"cleanup.policy": "delete"}, True),
        ({"retention.ms": "-1"}, {"retention.ms": "100"}, False),
        ({"retention.ms": "101"}, {"retention.ms": "100"}, False),
        ({"retention.ms": "99"}, {"retention.ms": "100"}, True),
        ({"max.message.bytes": "-1"}, {"max.message.bytes": "100"}, True),
        ({"min.compaction.lag.ms": "0"}, {"min.compaction.lag.ms": "100"}, True),
        ({"retention.ms": None}, {"retention.ms": "100"}, True),
    ],
)
def test_a_setting_differs_unless_it_is_as_good_as_planned(
    actual: dict[str, str | None], planned: dict[str, str], differs: bool
) -> None:
    assert bool(differing_config(actual, planned)) is differs
