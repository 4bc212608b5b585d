"""What an audit found."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

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
    there ClickHouse raw was taken as given, `base_events` of them. `retired` counts the days of entities and
    partitions that the state has given up on purpose. `late_duplicates` came again when the meter did not
    remember their ids any more: it counted them twice. `cross_partition_ids` stand in several partitions and
    count once in each. `refused_rows` of the missing rows were refused by ClickHouse. Where the log `has_grown`
    since the audit began, or records were `behind` (by topic) when it did, differences may only mean
    that the pipeline was at work.
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
    cross_partition_ids: tuple[str, ...]
    cross_partition_count: int
    late_duplicates: tuple[str, ...]
    late_duplicate_count: int
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


def to_json(report: AuditReport) -> str:
    """Return the report as JSON; money is whole pico-USD as a decimal string, for it can outgrow 64 bits."""
    content: dict[str, Any] = asdict(report)
    content["totals"] = {
        source.value: {name: _exact(name, value) for name, value in used._asdict().items()}
        for source, used in report.totals.items()
    }
    for difference in content["differences"]:
        for side in ("expected", "found"):
            difference[side] = _exact(difference["field"], difference[side])
    return json.dumps(content, indent=2)


def _exact(field: str, value: int) -> int | str:
    return str(value) if field == "cost_pico_usd" else value
