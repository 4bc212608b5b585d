"""What the meter refuses to start on."""

import asyncio
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tokentide.schemas import DataLossError, KafkaSettings, ServiceUnavailableError, SettingsError, TopicNames
from tokentide.streams.log import Log
from tokentide.streams.meter import run_meter
from tokentide.streams.outbox import Outbox
from tokentide.streams.partition import entity_partition
from tokentide.streams.settings import MeterSettings
from tokentide.streams.stages import BudgetStage


def settings_for(kafka: KafkaSettings, folder: Path, prefix: str) -> MeterSettings:
    names = {name: f"{prefix}.{name}" for name in TopicNames.__dataclass_fields__}
    return MeterSettings(kafka=kafka, topics=TopicNames(**names), meter_id=prefix, work_dir=folder)


def test_missing_topics_are_named(kafka: KafkaSettings, tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"these topics are missing: .*lost\.events.*`tokentide topics init`"
    ):
        run_meter(settings_for(kafka, tmp_path, "lost"))


def test_topics_with_other_partition_counts_are_named(
    kafka: KafkaSettings, cluster: Producer, tmp_path: Path
) -> None:
    prefix = f"wrong-{uuid.uuid4().hex}"
    settings = settings_for(kafka, tmp_path, prefix)
    names = [getattr(settings.topics, name) for name in TopicNames.__dataclass_fields__]
    for name in [*names, f"{prefix}-spend-changelog", f"{prefix}-budgets-changelog"]:
        cluster.list_topics(name, timeout=10)  # the cluster makes a topic of four partitions of it

    wrong = (
        rf"has 4 partitions, but {prefix}\.budgets has 4 instead of 1, {prefix}\.prices has 4 instead of 1;"
    )
    with pytest.raises(SettingsError, match=wrong):
        run_meter(settings)


def test_state_of_a_time_with_fewer_partitions_is_refused(
    kafka: KafkaSettings, cluster: Producer, topic: str
) -> None:
    names = TopicNames(limits=f"limits-{topic}")
    cluster.list_topics(names.limits, timeout=10)
    producer = Producer(kafka.librdkafka())
    before = entity_partition("team:a", 3)
    producer.produce(topic, b'{"offset":1,"cells":[],"fired":{}}', key=b"team:a", partition=before)
    assert producer.flush(10) == 0
    log = Log(kafka)
    failures: list[DataLossError] = []
    stages = {
        count: BudgetStage(
            names, topic, count, Outbox(kafka, 10.0, failures.append), log, committed=lambda *place: None
        )
        for count in (3, 4)
    }

    asyncio.run(stages[3].open(before))
    with pytest.raises(SettingsError, match=r"holds team:a, which of 4 partitions belongs to 3: .*new topic"):
        asyncio.run(stages[4].open(before))


def test_a_broker_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ServiceUnavailableError, match=r"the broker at 127\.0\.0\.1:1 does not answer .*start it"
    ):
        run_meter(settings_for(KafkaSettings("127.0.0.1:1"), tmp_path, "away"))


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENTIDE_DEDUPE_DAYS", "0")
    monkeypatch.setenv("TOKENTIDE_FLUSH_SECONDS", "soon")

    with pytest.raises(SettingsError, match=r"TOKENTIDE_FLUSH_SECONDS='soon' .*TOKENTIDE_DEDUPE_DAYS='0'"):
        MeterSettings.from_env()
