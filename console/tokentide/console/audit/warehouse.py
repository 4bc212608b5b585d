"""What ClickHouse holds: raw rows and aggregates, each asked in plain SQL."""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from clickhouse_connect.driver import Client

from tokentide.console.audit.fold import Rejections
from tokentide.console.audit.identities import Identity
from tokentide.console.audit.log import Span
from tokentide.console.audit.totals import Cell, Entity, HourTotals, Totals, Used
from tokentide.schemas import Period, Scope, SettingsError, pico_from_usd

__all__ = ["Warehouse"]

# How the raw columns name each scope; a call without a name counts in no total of the scope.
_SCOPE_COLUMNS = {
    Scope.USER: "ifNull(user_id, '')",
    Scope.TEAM: "ifNull(team_id, '')",
    Scope.ORG: "ifNull(org_id, '')",
    Scope.PROVIDER: "provider",
    Scope.MODEL: "concat(provider, '/', model)",
    Scope.OPERATION: "ifNull(operation, '')",
}
_ROWS_A_BLOCK = 65_536


class Warehouse:
    """The tables of one database; money arrives as text, so no client rounds it."""

    def __init__(self, client: Client, database: str, events_topic: str) -> None:
        if not re.fullmatch(r"\w+", database, re.ASCII):
            raise SettingsError(f"the database name {database!r} may hold letters, digits and _ only")
        self._client = client
        self._database = database
        self._events_topic = events_topic

    def raw_hours(self, spans: Sequence[Span], *, below: bool = False) -> HourTotals:
        """Return the totals of the raw rows before the ends of the spans; `below`: before their starts."""
        totals = HourTotals()
        for scope, column in _SCOPE_COLUMNS.items():
            rows = self._rows(
                f"""
                SELECT source_partition, toString({column}) AS scope_id,
                    intDiv(toUnixTimestamp(timestamp), 3600) * 3600 AS hour_start,
                    count(), sum(input_tokens), sum(output_tokens),
                    toString(sum(ifNull(cost_usd, 0))), countIf(cost_usd IS NULL)
                FROM {self._database}.usage_events FINAL
                WHERE scope_id != '' AND {_within(spans, below=below)}
                GROUP BY source_partition, scope_id, hour_start
                """
            )
            for partition, scope_id, hour_start, *used in rows:
                totals.add(int(partition), Entity(scope, scope_id), int(hour_start), _used(used))
        return totals

    def identities(self, spans: Sequence[Span], *, below: bool = False) -> Iterator[Identity]:
        """Yield the raw rows before the ends of the spans; `below`: before their starts."""
        rows = self._rows(
            f"""
            SELECT event_id, source_partition, source_offset FROM {self._database}.usage_events FINAL
            WHERE {_within(spans, below=below)}
            """
        )
        return (Identity(event_id, int(partition), int(offset)) for event_id, partition, offset in rows)

    def aggregates(self) -> Totals:
        """Return the totals of spend_totals, over all source partitions."""
        rows = self._rows(
            f"""
            SELECT toString(scope), toString(scope_id), toString(period), toUnixTimestamp(period_start),
                sum(requests), sum(input_tokens), sum(output_tokens), toString(sum(cost_usd)),
                sum(unpriced_requests)
            FROM {self._database}.spend_totals FINAL
            GROUP BY scope, scope_id, period, period_start
            """
        )
        return {
            Cell(Scope(scope), scope_id, Period(period), int(start)): _used(used)
            for scope, scope_id, period, start, *used in rows
        }

    def rejections(self, spans: Sequence[Span]) -> Mapping[int, Rejections]:
        """Return how many records of each span are stored as rejected."""
        rows = self._rows(
            f"""
            SELECT source_partition, count(), sum(source_offset) FROM {self._database}.rejected_events FINAL
            WHERE source_topic = {{topic:String}} AND {_within(spans)} AND NOT ({_within(spans, below=True)})
            GROUP BY source_partition
            """,
            {"topic": self._events_topic},
        )
        return {int(partition): Rejections(int(count), int(offsets)) for partition, count, offsets in rows}

    def _rows(self, query: str, parameters: dict[str, Any] | None = None) -> Iterator[Sequence[Any]]:
        with self._client.query_rows_stream(
            query, parameters=parameters, settings={"max_block_size": _ROWS_A_BLOCK}
        ) as stream:
            yield from stream


def _within(spans: Sequence[Span], *, below: bool = False) -> str:
    """Return the condition that a row comes from before the spans' ends, or starts."""
    parts = [
        f"(source_partition = {span.partition} AND source_offset < {span.start if below else span.end})"
        for span in spans
    ]
    return "(" + (" OR ".join(parts) or "0") + ")"


def _used(values: Sequence[Any]) -> Used:
    requests, input_tokens, output_tokens, cost_usd, unpriced = values
    cost = pico_from_usd(Decimal(cost_usd))
    return Used(int(requests), int(input_tokens), int(output_tokens), cost, int(unpriced))
