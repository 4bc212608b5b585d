"""What ClickHouse holds: raw rows and aggregates, each asked in plain SQL."""

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from tokentide.console.audit.correction import Aggregates
from tokentide.console.audit.identities import Identity, Place
from tokentide.console.audit.log import Span
from tokentide.console.audit.overrides import PriceStep
from tokentide.console.audit.totals import Cell, Entity, HourTotals, Used
from tokentide.schemas import Period, Scope, SettingsError, pico_from_usd
from tokentide.sinks import ClickHouseSettings, connect, translated

__all__ = ["AUDIT", "Warehouse"]

AUDIT = "audit"
"""The adjustment that `tokentide audit --fix` publishes."""

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
    """The tables of one database; money arrives as text, so no client rounds it.

    Opening and every question raise ServiceUnavailableError and StorageRefusedError.
    """

    def __init__(self, settings: ClickHouseSettings, events_topic: str) -> None:
        if not re.fullmatch(r"\w+", settings.database, re.ASCII):
            raise SettingsError(
                f"the database name {settings.database!r} may hold letters, digits and _ only; "
                "set TOKENTIDE_CLICKHOUSE_DATABASE"
            )
        self._settings = settings
        self._database = settings.database
        self._events_topic = events_topic
        # The tables are named in full: a database that is not there yet is then a refusal like any other.
        self._client = connect(settings, database="")

    def close(self) -> None:
        """Leave ClickHouse."""
        self._client.close()

    def raw_hours(self, spans: Sequence[Span]) -> HourTotals:
        """Return the totals of the raw rows that `identities` yields."""
        return self._hours(_not_behind(spans))

    def base_hours(self, spans: Sequence[Span], late: int) -> HourTotals:
        """Return the totals of the raw rows that `base` yields and that came so late (0, 1 or 2)."""
        return self._hours(f"{_before_start(spans)} AND late = {late}")

    def late(self) -> Iterator[tuple[Place, int]]:
        """Yield which records came late and how; a record may come twice, and the higher number is right.

        A repeat of an id that the meter had forgotten may have no row, but the adjustment bears its offset.
        """
        rows = self._rows(
            f"""
            SELECT source_partition, source_offset, late
            FROM {self._database}.usage_events FINAL WHERE late > 0
            UNION ALL
            SELECT source_partition, toUInt64OrZero(substring(adjustment, 6)), max(if(period = 'month', 2, 1))
            FROM {self._database}.spend_totals FINAL
            WHERE scope = 'provider' AND startsWith(adjustment, 'late/')
            GROUP BY source_partition, adjustment
            """
        )
        return ((Place(int(partition), int(offset)), int(late)) for partition, offset, late in rows)

    def _hours(self, condition: str) -> HourTotals:
        totals = HourTotals()
        for scope, column in _SCOPE_COLUMNS.items():
            rows = self._rows(
                f"""
                SELECT source_partition, toString({column}) AS scope_id,
                    intDiv(toUnixTimestamp(timestamp), 3600) * 3600 AS hour_start,
                    sum(requests), sum(input_tokens), sum(output_tokens),
                    toString(sum(ifNull(cost_usd, 0))), sumIf(requests, cost_usd IS NULL)
                FROM {self._database}.usage_events FINAL
                WHERE scope_id != '' AND {condition}
                GROUP BY source_partition, scope_id, hour_start
                """
            )
            for partition, scope_id, hour_start, *used in rows:
                totals.add(int(partition), Entity(scope, scope_id), int(hour_start), _used(used))
        return totals

    def base(self, spans: Sequence[Span]) -> Iterator[tuple[Identity, int]]:
        """Yield the raw rows from before the starts of the spans, with the days of their events since 1970."""
        rows = self._rows(
            f"""
            SELECT event_id, source_partition, source_offset, toUInt32(toDate(timestamp))
            FROM {self._database}.usage_events FINAL WHERE {_before_start(spans)}
            """
        )
        return (
            (Identity(event_id, int(partition), int(offset)), int(day))
            for event_id, partition, offset, day in rows
        )

    def identities(self, spans: Sequence[Span]) -> Iterator[Identity]:
        """Yield the raw rows, without those behind the ends of the spans."""
        rows = self._rows(
            f"""
            SELECT event_id, source_partition, source_offset FROM {self._database}.usage_events FINAL
            WHERE {_not_behind(spans)}
            """
        )
        return (Identity(event_id, int(partition), int(offset)) for event_id, partition, offset in rows)

    def behind(self, spans: Sequence[Span], limit: int) -> Iterator[Identity]:
        """Yield raw rows from behind the ends of the spans."""
        rows = self._rows(
            f"""
            SELECT event_id, source_partition, source_offset FROM {self._database}.usage_events FINAL
            WHERE NOT {_not_behind(spans)} ORDER BY source_partition, source_offset LIMIT {limit}
            """
        )
        return (Identity(event_id, int(partition), int(offset)) for event_id, partition, offset in rows)

    def price_steps(self) -> Iterator[PriceStep]:
        """Yield where rows begin to know more, or less, of `usage.prices`; in the order of their offsets."""
        rows = self._rows(
            f"""
            SELECT source_partition, source_offset, known FROM
            (
                SELECT source_partition, source_offset,
                    toInt64OrZero(extract(ifNull(price_version, ''), '[+]prices@([0-9]+)$')) AS known,
                    lagInFrame(known, 1, toInt64(0)) OVER (
                        PARTITION BY source_partition ORDER BY source_offset
                        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                    ) AS known_before
                FROM {self._database}.usage_events FINAL
            )
            WHERE known != known_before ORDER BY source_partition, source_offset
            """
        )
        return (PriceStep(int(partition), int(offset), int(known)) for partition, offset, known in rows)

    def aggregates(self) -> Aggregates:
        """Return the totals of spend_totals, over all source partitions and adjustments."""
        rows = self._rows(
            f"""
            SELECT toString(scope), toString(scope_id), toString(period), toUnixTimestamp(period_start),
                maxIf(version, adjustment = '{AUDIT}'),
                sum(requests), sum(input_tokens), sum(output_tokens), toString(sum(cost_usd)),
                sum(unpriced_requests),
                sumIf(requests, adjustment = '{AUDIT}'), sumIf(input_tokens, adjustment = '{AUDIT}'),
                sumIf(output_tokens, adjustment = '{AUDIT}'), toString(sumIf(cost_usd, adjustment = '{AUDIT}')),
                sumIf(unpriced_requests, adjustment = '{AUDIT}')
            FROM {self._database}.spend_totals FINAL
            WHERE scope != ''
            GROUP BY scope, scope_id, period, period_start
            """
        )
        found = Aggregates({}, {}, 0)
        for scope, scope_id, period, start, version, *numbers in rows:
            cell = Cell(Scope(scope), scope_id, Period(period), int(start))
            found.totals[cell] = _used(numbers[:5])
            if version:
                found.adjusted[cell] = _used(numbers[5:])
                found = found._replace(version=max(found.version, int(version)))
        return found

    def rejected(self, spans: Sequence[Span]) -> Iterator[Place]:
        """Yield the records within the spans that are stored as rejected."""
        rows = self._rows(
            f"""
            SELECT source_partition, source_offset FROM {self._database}.rejected_events FINAL
            WHERE source_topic = {{topic:String}} AND {_not_behind(spans)} AND NOT {_before_start(spans)}
            """,
            {"topic": self._events_topic},
        )
        return (Place(int(partition), int(offset)) for partition, offset in rows)

    def refused(self, priced_topic: str) -> Iterator[tuple[Place, str]]:
        """Yield where the events stand whose rows ClickHouse refused, and why; also if it has them by now."""
        rows = self._rows(
            f"""
            SELECT source_partition, source_row, substring(reason, 1, 300)
            FROM {self._database}.rejected_events FINAL
            WHERE source_topic = {{topic:String}}
            """,
            {"topic": priced_topic},
        )
        return ((Place(int(partition), int(offset)), reason) for partition, offset, reason in rows)

    def _rows(self, query: str, parameters: dict[str, Any] | None = None) -> Iterator[Sequence[Any]]:
        with (
            translated(self._settings, "tell its totals"),
            self._client.query_rows_stream(
                query, parameters=parameters, settings={"max_block_size": _ROWS_A_BLOCK}
            ) as stream,
        ):
            yield from stream


def _before_start(spans: Sequence[Span]) -> str:
    """Return the condition that a row comes from a record that retention removed."""
    return _any_of(f"source_partition = {span.partition} AND source_offset < {span.start}" for span in spans)


def _not_behind(spans: Sequence[Span]) -> str:
    """Return the condition that no span ends before the row's record; rows of unknown partitions fulfil it."""
    behind = (f"source_partition = {span.partition} AND source_offset >= {span.end}" for span in spans)
    return f"(NOT {_any_of(behind)})"


def _any_of(conditions: Iterable[str]) -> str:
    return "(" + (" OR ".join(f"({condition})" for condition in conditions) or "0") + ")"


def _used(values: Sequence[Any]) -> Used:
    requests, input_tokens, output_tokens, cost_usd, unpriced = values
    cost = pico_from_usd(Decimal(cost_usd))
    return Used(int(requests), int(input_tokens), int(output_tokens), cost, int(unpriced))
