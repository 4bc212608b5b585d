"""The audit itself: read the log, then ask the three others for the same numbers."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tokentide.console.audit.compare import compare_rows, compare_totals
from tokentide.console.audit.correction import Correction, corrections
from tokentide.console.audit.findings import Findings
from tokentide.console.audit.fold import Fold
from tokentide.console.audit.identities import Identities
from tokentide.console.audit.log import TopicLog
from tokentide.console.audit.overrides import KnownPrices, PriceStep
from tokentide.console.audit.report import AuditReport, Source
from tokentide.console.audit.rules import AuditRules
from tokentide.console.audit.state import State, read_state
from tokentide.console.audit.totals import Totals, Used, overall, roll_up
from tokentide.console.audit.warehouse import Warehouse
from tokentide.console.lag import LagReader
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import DataLossError, changelog_name

__all__ = ["Progress", "run_audit"]

Progress = Callable[[str, int], None]
"""Is told what is being read, and how many of it were."""

Item = TypeVar("Item")

_KEPT_IDS = 20
_MOST_BEYOND = 1_000
_STEP = 1_000
_CALM_SECONDS = 10.0
_LOOK_SECONDS = 0.1


def run_audit(
    settings: ConsoleSettings,
    *,
    rules: AuditRules | None = None,
    on_progress: Progress = lambda _what, _count: None,
) -> AuditReport:
    """Compare Kafka's log, Faust's state, ClickHouse's rows and its aggregates, to the token and the pico-USD.

    Reads only; blocks for 0.1 to 0.2 ms an event of the log. `rules` are those of the environment when None.
    Raises SettingsError for a missing topic or a wrong setting, ServiceUnavailableError when Kafka or ClickHouse
    does not answer, StorageRefusedError when ClickHouse refuses, DataLossError for state that no meter wrote, for own
    prices that were lost and for a log that loses records while it is read.
    """
    started = time.monotonic()
    rules = AuditRules.from_env() if rules is None else rules
    behind = _calm_lag(settings)
    with (
        tempfile.TemporaryDirectory(prefix="tokentide-audit-") as folder,
        Identities(Path(folder)) as identities,
        closing(Warehouse(settings.clickhouse, settings.topics.events)) as warehouse,
        closing(TopicLog(settings.kafka, settings.topics.events)) as log,
    ):
        audit = _Audit(warehouse, identities, log, on_progress)
        prices = _read_prices(settings, audit)
        audit.findings.add(prices.differences())
        identities.add_late(audit.watched("late rows", warehouse.late()))
        fold = Fold(identities, rules, prices)
        base_events = audit.take_base(fold)
        fold.add_all(audit.watched("records of the log", log.records()))
        expected = roll_up(fold.hours)
        audit.totals[Source.LOG] = overall(expected)
        audit.check_state(_read_changelog(settings, audit), fold)
        audit.check_raw(fold, settings.topics.priced)
        audit.check_aggregates(expected)
        shared = identities.in_several_partitions()
        cross_partition_ids = tuple(islice(shared, _KEPT_IDS))
        return AuditReport(
            equal=audit.findings.count == 0,
            records=fold.records,
            events=fold.events,
            base_events=base_events,
            duplicates=fold.duplicates,
            rejected=fold.rejected,
            unpriced=dict(fold.unpriced),
            totals={source: audit.totals[source] for source in Source},
            cells=len(expected),
            difference_count=audit.findings.count,
            differences=audit.findings.first(),
            suspects=audit.findings.suspects(),
            differing=audit.findings.differing(),
            corrections=audit.corrections,
            adjusted_version=audit.adjusted_version,
            cross_partition_ids=cross_partition_ids,
            cross_partition_count=len(cross_partition_ids) + sum(1 for _ in shared),
            late_duplicates=tuple(fold.late_duplicates),
            late_duplicate_count=fold.late_duplicate_count,
            late_duplicate_pico_usd=fold.late_duplicate_pico_usd,
            late_row_count=fold.more_row_count,
            late_row_pico_usd=fold.more_row_pico_usd,
            refused_rows=audit.refused_rows,
            truncated=audit.truncated,
            retired=audit.retired,
            has_grown=log.has_grown(),
            behind=behind,
            seconds=round(time.monotonic() - started, 3),
        )


class _Audit:
    """The comparisons of one audit; each source's totals are let go before the next ones are read."""

    def __init__(
        self, warehouse: Warehouse, identities: Identities, log: TopicLog, on_progress: Progress
    ) -> None:
        self._log = log
        self._warehouse = warehouse
        self._identities = identities
        self._spans = log.spans
        self._on_progress = on_progress
        self.truncated = tuple(span for span in log.spans if span.start > 0)
        self.findings = Findings()
        self.totals: dict[Source, Used] = {}
        self.retired = 0
        self.corrections: tuple[Correction, ...] = ()
        self.adjusted_version = 0
        self.refused_rows = 0

    def watched(self, what: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items, and tell of them now and then."""
        count = 0
        for count, item in enumerate(items, start=1):
            if count % _STEP == 0:
                self._on_progress(what, count)
            yield item
        self._on_progress(what, count)

    def price_steps(self) -> list[PriceStep]:
        """Return which rows knew how much of `usage.prices`."""
        return list(self._warehouse.price_steps())

    def take_base(self, fold: Fold) -> int:
        """Give the fold what ClickHouse holds of the records that retention removed, and return how many."""
        if not self.truncated:
            return 0
        rows = self._warehouse.base(self.truncated)
        events = fold.add_base(self.watched("rows older than the log", rows))
        for late in (0, 1, 2):
            for hour, used in self._warehouse.base_hours(self.truncated, late):
                fold.hours.add(*hour, used)
                if late:
                    fold.late[late].add(*hour, used)
        return events

    def check_state(self, state: State, fold: Fold) -> None:
        """Compare what the meter remembers of the periods that are open, with all that it must have counted."""
        expected, self.retired = state.expected(fold.counted_hours(), fold.late)
        self._compare(Source.STATE, expected, state.totals())

    def check_raw(self, fold: Fold, priced_topic: str) -> None:
        """Compare the raw rows, one by one by where they come from, and as totals."""
        rows = self._warehouse.identities(self._spans)
        self._identities.add_found(self.watched("raw rows", rows))
        beyond = list(self._warehouse.behind(self._spans, _MOST_BEYOND))
        if not self._log.has_grown():
            # Nothing came since, so these rows are of no record: of a topic that was deleted, perhaps.
            self._identities.add_found(beyond)
        rejected = self._warehouse.rejected(self._spans)
        self._identities.add_found_rejected(self.watched("rejected records", rejected))
        refused = dict(self._warehouse.refused(priced_topic))
        for difference in compare_rows(self._identities, refused):
            self.refused_rows += difference.reason is not None
            self.findings.add([difference])
        self._compare(
            Source.RAW, roll_up(fold.stored_hours()), roll_up(self._warehouse.raw_hours(self._spans))
        )

    def check_aggregates(self, expected: Totals) -> None:
        """Compare the totals that the meter and earlier audits published; where they alone differ, work out how."""
        found = self._warehouse.aggregates()
        self._compare(Source.AGGREGATES, expected, found.totals)
        self.adjusted_version = found.version
        if self.findings.differing() == (Source.AGGREGATES,):
            self.corrections = tuple(corrections(expected, found))

    def _compare(self, source: Source, expected: Totals, found: Totals) -> None:
        self.totals[source] = overall(found)
        self.findings.add(compare_totals(source, expected, found))
        self._on_progress(f"totals of {source}", len(found))


def _read_prices(settings: ConsoleSettings, audit: _Audit) -> KnownPrices:
    """Return the overrides of `usage.prices`, and which rows rest on them; ClickHouse is asked only if there are any.

    Raises DataLossError when the topic has lost records: nobody can tell then what rows were priced with.
    """
    topic = settings.topics.prices
    with closing(TopicLog(settings.kafka, topic)) as log:
        if not any(span.end for span in log.spans):
            return KnownPrices()
    # Before the records: what the rows name by now, the topic must hold.
    steps = audit.price_steps()
    with closing(TopicLog(settings.kafka, topic)) as log:
        if any(span.start for span in log.spans):
            raise DataLossError(
                f"{topic} has lost its first records, so nobody can tell what rows were priced with; it must have "
                "cleanup.policy=delete and retention.ms=-1: `tokentide doctor` compares"
            )
        end = max(span.end for span in log.spans)
        return KnownPrices(audit.watched("records of own prices", log.records()), steps, end)


def _calm_lag(settings: ConsoleSettings) -> Mapping[str, int]:
    """Return how far the pipeline is behind, in a moment when that is not for watermarks alone.

    They come four times a minute on a pipeline at rest, and take a moment to land.
    """
    deadline = time.monotonic() + _CALM_SECONDS
    with LagReader(settings) as reader:
        while True:
            behind = reader.read()
            late = {topic for topic, count in behind.items() if count}
            if late != {settings.topics.spend} or time.monotonic() > deadline:
                return behind
            time.sleep(_LOOK_SECONDS)


def _read_changelog(settings: ConsoleSettings, audit: _Audit) -> State:
    with closing(TopicLog(settings.kafka, changelog_name(settings.meter_id, "spend"))) as changelog:
        return read_state(audit.watched("records of Faust's changelog", changelog.records()))
