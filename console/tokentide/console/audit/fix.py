"""`tokentide audit --fix`: what must be added to the totals of ClickHouse, and publishing it."""

import time
from collections.abc import Iterable, Iterator
from itertools import groupby

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tokentide.console.audit.correction import Correction
from tokentide.console.audit.report import AuditReport, Source
from tokentide.console.audit.warehouse import AUDIT
from tokentide.console.broker import QUIET, reach
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import ServiceUnavailableError, SettingsError, SpendTotal, SpendUpdate
from tokentide.streams.partition import entity_key, entity_partition

__all__ = ["check_fixable", "publish_corrections", "updates"]

_DELIVERY_SECONDS = 30.0
_SOURCE_PARTITION = 0
_MOST_ON_THE_WAY = 10_000


def check_fixable(report: AuditReport) -> None:
    """Return when adjustments are the cure for what the audit found; raises SettingsError that says why not."""
    if report.is_early:
        raise SettingsError(
            "--fix needs a pipeline at rest, and this one was at work while it was audited: totals that are on "
            "their way would be corrected twice; let it catch up, or give it longer with --wait"
        )
    others = [source for source in report.differing if source is not Source.AGGREGATES]
    if others:
        raise SettingsError(
            f"--fix corrects totals only, and there are differences in {' and '.join(others)}: the cause is "
            "another one, and adjustments would hide it; `tokentide audit` shows them"
        )


def updates(corrections: Iterable[Correction], version: int) -> Iterator[SpendUpdate]:
    """Yield one record of `usage.spend` for each entity, with all its corrections."""

    def entity(correction: Correction) -> tuple[str, str]:
        return correction.cell.scope, correction.cell.scope_id

    for _, of_entity in groupby(sorted(corrections, key=entity), entity):
        group = list(of_entity)
        yield SpendUpdate(
            scope=group[0].cell.scope,
            scope_id=group[0].cell.scope_id,
            source_partition=_SOURCE_PARTITION,
            version=version,
            adjustment=AUDIT,
            totals=tuple(
                SpendTotal(
                    period=each.cell.period, period_start=each.cell.period_start, **each.adjustment._asdict()
                )
                for each in group
            ),
        )


def publish_corrections(settings: ConsoleSettings, report: AuditReport, *, now_ms: int | None = None) -> None:
    """Publish the corrections of a report and return when Kafka has stored them.

    Each is absolute, so publishing it twice changes nothing. Raises what `check_fixable` raises, SettingsError when
    the topic is missing, ServiceUnavailableError when Kafka does not store them.
    """
    check_fixable(report)
    version = max(int(time.time() * 1000) if now_ms is None else now_ms, report.adjusted_version + 1)
    topic = settings.topics.spend
    existing = reach(settings.kafka).metadata.topics
    if topic not in existing:
        raise SettingsError(
            f"{settings.kafka.broker} lacks the topic {topic}; create it with `tokentide topics init`"
        )
    partitions = len(existing[topic].partitions)
    problems: list[str] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            problems.append(error.str())

    producer = Producer(
        {
            **settings.kafka.librdkafka(),
            **QUIET,
            "enable.idempotence": True,
            "message.timeout.ms": int(_DELIVERY_SECONDS * 1000) - 1000,
            "error_cb": lambda _error: None,
        }
    )
    try:
        for update in updates(report.corrections, version):
            key = entity_key(update.scope or "", update.scope_id)
            producer.produce(
                topic,
                update.model_dump_json().encode(),
                key=f"{key}|{_SOURCE_PARTITION}|{AUDIT}".encode(),
                partition=entity_partition(key, partitions),
                on_delivery=delivered,
            )
            producer.poll(0)
            while len(producer) > _MOST_ON_THE_WAY:
                producer.poll(0.1)
        undelivered = producer.flush(_DELIVERY_SECONDS)
    except KafkaException as error:
        raise ServiceUnavailableError(
            f"{topic} cannot be written: {error.args[0].str()}; run --fix again"
        ) from error
    if undelivered or problems:
        reason = problems[0] if problems else f"no answer within {_DELIVERY_SECONDS:.0f} s"
        raise ServiceUnavailableError(
            f"Kafka at {settings.kafka.broker} did not store every correction: {reason}; run --fix again"
        )
