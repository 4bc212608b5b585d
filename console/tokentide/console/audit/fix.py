"""`tokentide audit --fix`: what must be added to the totals of ClickHouse, and publishing it."""

import time
from collections.abc import Iterable, Iterator
from itertools import groupby

from tokentide.console.audit.correction import Correction
from tokentide.console.audit.report import AuditReport, Source
from tokentide.console.audit.warehouse import AUDIT
from tokentide.console.broker import reach
from tokentide.console.publish import Outgoing, publish
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import SettingsError, SpendTotal, SpendUpdate
from tokentide.streams.partition import entity_key, entity_partition

__all__ = ["check_fixable", "publish_corrections", "updates"]

_DELIVERY_SECONDS = 30.0
_SOURCE_PARTITION = 0


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
    publish(
        settings.kafka,
        topic,
        (_record(update, partitions) for update in updates(report.corrections, version)),
        "run --fix again",
        seconds=_DELIVERY_SECONDS,
    )


def _record(update: SpendUpdate, partitions: int) -> Outgoing:
    key = entity_key(update.scope or "", update.scope_id)
    return Outgoing(
        f"{key}|{_SOURCE_PARTITION}|{AUDIT}".encode(),
        update.model_dump_json().encode(),
        entity_partition(key, partitions),
    )
