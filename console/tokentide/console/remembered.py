"""The meter's state as ClickHouse remembers it, in the form of the meter's changelogs."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from tokentide.schemas import Alert, Period, pico_from_usd
from tokentide.sinks import ClickHouseSettings, connect, translated
from tokentide.streams.day import day_record
from tokentide.streams.entity import Entity, Partial
from tokentide.streams.month import Month, month_key
from tokentide.streams.partition import entity_key, entity_partition
from tokentide.streams.total import Total

__all__ = ["StateRecord", "remembered_days", "remembered_entities"]

_DAY_SECONDS = 86_400
# How the rows name each scope; a call without a name counts in no total of the scope.
_SCOPE_COLUMNS = {
    "user": "ifNull(user_id, '')",
    "team": "ifNull(team_id, '')",
    "org": "ifNull(org_id, '')",
    "provider": "provider",
    "model": "concat(provider, '/', model)",
    "operation": "ifNull(operation, '')",
}
# Groups and sorts that do not fit go to ClickHouse's disk.
_SPILL_BYTES = 256_000_000
_SETTINGS = {
    "max_block_size": 8192,
    "max_bytes_before_external_group_by": _SPILL_BYTES,
    "max_bytes_before_external_sort": _SPILL_BYTES,
    # In these tables all versions of a key share a partition: said above each CREATE TABLE.
    "do_not_merge_across_partitions_select_final": 1,
}


class StateRecord(NamedTuple):
    """A record for a changelog."""

    partition: int
    key: bytes
    value: bytes


def remembered_days(settings: ClickHouseSettings, fences: Mapping[int, int]) -> Iterator[StateRecord]:
    """Yield the records of the spend changelog for these source partitions, from the rows up to their fences.

    A row behind the fence may have landed without its neighbours: an insert was cut off, or the sink goes on. Days
    that are closed are written as well: the meter folds them into their months as it would have. A late row is in no
    day; it counts in its month, if that was open. Holds one entity and day at a time. Raises
    ServiceUnavailableError and StorageRefusedError.
    """
    within = " OR ".join(f"(source_partition = {p} AND source_offset <= {f})" for p, f in fences.items())
    for scope, column in _SCOPE_COLUMNS.items():
        rows = _rows(
            settings,
            f"""
            SELECT source_partition, toString({column}) AS name,
                intDiv(toUnixTimestamp(timestamp), 3600) * 3600 AS hour,
                sum(requests), sum(input_tokens), sum(output_tokens),
                toString(sum(ifNull(cost_usd, 0))), sumIf(requests, cost_usd IS NULL), max(source_offset)
            FROM {{database:Identifier}}.usage_events FINAL
            WHERE name != '' AND late = 0 AND ({within or "0"})
            GROUP BY source_partition, name, hour ORDER BY source_partition, name, hour
            """,
        )
        for (partition, scope_id, day), of_the_day in groupby(rows, _day_of):
            hours, fence = {}, -1
            for _, _, hour, requests, input_tokens, output_tokens, cost, unpriced, last in of_the_day:
                hours[hour] = Total(
                    requests, input_tokens, output_tokens, pico_from_usd(Decimal(cost)), unpriced
                )
                fence = max(fence, last)
            yield StateRecord(partition, *day_record(scope, scope_id, day, fence, hours))
        late_rows = _rows(
            settings,
            f"""
            SELECT source_partition, toString({column}) AS name,
                toUnixTimestamp(toDateTime(toStartOfMonth(timestamp), 'UTC')) AS month,
                sum(requests), sum(input_tokens), sum(output_tokens),
                toString(sum(ifNull(cost_usd, 0))), sumIf(requests, cost_usd IS NULL), max(source_offset)
            FROM {{database:Identifier}}.usage_events FINAL
            WHERE name != '' AND late = 1 AND ({within or "0"})
            GROUP BY source_partition, name, month
            """,
        )
        for (
            partition,
            scope_id,
            start,
            requests,
            input_tokens,
            output_tokens,
            cost,
            unpriced,
            last,
        ) in late_rows:
            month = Month()
            used = Total(requests, input_tokens, output_tokens, pico_from_usd(Decimal(cost)), unpriced)
            month.count(used, last)
            yield StateRecord(partition, month_key(scope, scope_id, start), month.record())


def remembered_entities(
    settings: ClickHouseSettings, positions: Mapping[int, int], partitions: int, newer_alerts: Iterable[Alert]
) -> Iterator[StateRecord]:
    """Yield the records of the budgets changelog for these of the `partitions` of `usage.spend`.

    `newer_alerts` are those that ClickHouse may not have yet. Every partial gets one version less than it has: when
    `usage.spend` is read again from the position, its record counts as new, and its alerts are not missed; it says
    the same, so nothing counts twice. Holds one entity at a time. Raises as `remembered_days` does.
    """
    totals = _rows(
        settings,
        """
        SELECT toString(scope) AS kind, scope_id, toString(period), toUnixTimestamp(period_start),
            source_partition, adjustment, version, toString(cost_usd), input_tokens + output_tokens,
            unpriced_requests
        FROM {database:Identifier}.spend_totals FINAL
        WHERE scope != '' AND period IN ('day', 'month') ORDER BY kind, scope_id
        """,
    )
    alerts = _rows(
        settings,
        """
        SELECT toString(scope) AS kind, scope_id, alert_id, toUnixTimestamp(period_start)
        FROM {database:Identifier}.alert_events FINAL ORDER BY kind, scope_id
        """,
    )
    newer = [
        (alert.scope.value, alert.scope_id, alert.alert_id, int(alert.period_start.timestamp()))
        for alert in newer_alerts
    ]
    by_entity = itemgetter(0, 1)
    everything = heapq.merge(totals, alerts, sorted(newer), key=by_entity)
    for (scope, scope_id), known in groupby(everything, by_entity):
        key = entity_key(scope, scope_id)
        partition = entity_partition(key, partitions)
        if partition in positions:
            value = _entity(known, positions[partition]).record()
            yield StateRecord(partition, key.encode(), value)


def _entity(known: Iterable[Sequence[Any]], position: int) -> Entity:
    entity = Entity()
    entity.offset = position
    for _, _, *fields in known:
        if len(fields) == 2:
            alert_id, start = fields
            entity.fired[alert_id] = start
        else:
            period, start, source_partition, adjustment, version, cost, tokens, unpriced = fields
            partial = Partial(version - 1, pico_from_usd(Decimal(cost)), tokens, unpriced)
            entity.put((Period(period), start), (source_partition, adjustment), partial)
    return entity


def _day_of(row: Sequence[Any]) -> tuple[int, str, int]:
    return row[0], row[1], row[2] - row[2] % _DAY_SECONDS


def _rows(settings: ClickHouseSettings, query: str) -> Iterator[Sequence[Any]]:
    """Yield the answer as it arrives, over a connection of its own."""
    with (
        translated(settings, "tell what it remembers"),
        closing(connect(settings, database="")) as client,
        client.query_rows_stream(
            query, parameters={"database": settings.database}, settings=_SETTINGS
        ) as stream,
    ):
        yield from stream
