"""What an audit found."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tokentide.console.audit.correction import Correction
from tokentide.console.audit.log import Span
from tokentide.console.audit.totals import Used

__all__ = ["AuditReport", "Difference", "Source", "to_json"]


class Source(StrEnum):
    """Where the same numbers must stand."""

    LOG = "Kafka log"
    STATE = "Faust state"
    RAW = "ClickHouse raw"
    AGGREGATES = "ClickHouse aggregates"


@dataclass(frozen=True, slots=True)
class Difference:
    """One number that is not what the Kafka log says.

    `scope` is one of Scope; or `event`, then `scope_id` is `event_id @ partition:offset`; or `rejected`, then
    it is `partition:offset`. The latter two count rows and have no period. With `price` it is the `partition:offset`
    of the first of some rows that name, as `found`, an offset beyond the end of `usage.prices`, which is what is
    `expected` at most. `period_start` is in Unix seconds.
    `reason` is given for a row that is missing because ClickHouse refused it: it stands in `usage.rejected`.
    """

    source: Source
    scope: str
    scope_id: str
    period: str | None
    period_start: int | None
    field: str
    expected: int
    found: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The verdict and what it rests on; the log is what the others are compared with.

    `events` counts those in the log, `unpriced` those of unknown price by model. `differences` is cut to the
    first ones, `difference_count` is not. `truncated` names the partitions whose first records retention removed:
    there ClickHouse raw was taken as given, `base_events` of them. `retired` counts the days and months of entities
    and partitions that are closed, so that the state has them no longer. `late_duplicates` came again when the meter
    did not remember their ids any more: it counted them once more, `late_duplicate_pico_usd` in all, and
    `late_row_count` of them have a row of their own in ClickHouse. `cross_partition_ids` stand in several partitions
    and count once in each. `refused_rows` of the missing rows were refused by ClickHouse. Where the log `has_grown`
    since the audit began, or records were `behind` (by topic) when it did, differences may only mean
    that the pipeline was at work. `differing` are the sources with differences; where ClickHouse aggregates are the
    only one, `corrections` would make them right, and `adjusted_version` is the version of the last ones.
    """

    equal: bool
    records: int
    events: int
    base_events: int
    duplicates: int
    rejected: int
    unpriced: Mapping[str, int]
    totals: Mapping[Source, Used]
    cells: int
    difference_count: int
    differences: tuple[Difference, ...]
    suspects: tuple[Source, ...]
    differing: tuple[Source, ...]
    corrections: tuple[Correction, ...]
    adjusted_version: int
    cross_partition_ids: tuple[str, ...]
    cross_partition_count: int
    late_duplicates: tuple[str, ...]
    late_duplicate_count: int
    late_duplicate_pico_usd: int
    late_row_count: int
    late_row_pico_usd: int
    refused_rows: int
    truncated: tuple[Span, ...]
    retired: int
    has_grown: bool
    behind: Mapping[str, int]
    seconds: float

    @property
    def is_early(self) -> bool:
        """Whether the pipeline was at work while it was audited."""
        return self.has_grown or any(self.behind.values())


def to_json(report: AuditReport, corrections: Iterable[Correction] | None = None) -> str:
    """Return the report as JSON; money is whole pico-USD as a decimal string, for it can outgrow 64 bits.

    `corrections` are those of an audit before, when they are to stand in for the report's own.
    """
    content: dict[str, Any] = asdict(report)
    content["totals"] = {source.value: _numbers(used) for source, used in report.totals.items()}
    content["corrections"] = [
        {
            **correction.cell._asdict(),
            "off_by": _numbers(correction.off_by),
            "adjustment": _numbers(correction.adjustment),
        }
        for correction in (report.corrections if corrections is None else corrections)
    ]
    for name in ("late_duplicate_pico_usd", "late_row_pico_usd"):
        content[name] = str(content[name])
    for difference in content["differences"]:
        for side in ("expected", "found"):
            difference[side] = _exact(difference["field"], difference[side])
    return json.dumps(content, indent=2)


def _numbers(used: Used) -> dict[str, int | str]:
    return {name: _exact(name, value) for name, value in used._asdict().items()}


def _exact(field: str, value: int) -> int | str:
    return str(value) if field == "cost_pico_usd" else value
