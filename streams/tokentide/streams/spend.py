"""What every entity used, counted from one partition: the state behind `usage.spend`, as values.

The state is a pure function of the priced rows up to an offset, whatever their batches and repeats: that is why a
replay, or a frozen worker that wakes up, can only write what is true already.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from tokentide.schemas import DataLossError, Period, Scope, period_start
from tokentide.streams.partition import entity_key
from tokentide.streams.rows import Rows

__all__ = ["FENCE_KEY", "SpendChanges", "SpendState"]

FENCE_KEY = b"#fence"
"""Key of the changelog record that says how far the whole partition is applied; no scope begins with #."""

_DAY_SECONDS = 86_400
# requests, input tokens, output tokens, cost in pico-USD, unpriced requests
_Total = list[int]
_Entity = tuple[str, str]


class _DayRecord(msgspec.Struct):
    """What the changelog holds of one entity and day: totals by the hour's start in Unix seconds."""

    fence: int
    hours: dict[str, tuple[int, int, int, str, int]]


class _FenceRecord(msgspec.Struct):
    """The last source offset applied (-1 for none), and the next offset of `usage.priced`."""

    source: int
    priced: int


_encode = msgspec.json.Encoder().encode
_decode_day = msgspec.json.Decoder(_DayRecord).decode
_decode_fence = msgspec.json.Decoder(_FenceRecord).decode


class _Day:
    """One entity and day; the fence is the last source offset counted in."""

    __slots__ = ("fence", "hours", "total")

    def __init__(self) -> None:
        self.fence = -1
        self.hours: dict[int, _Total] = {}
        self.total: _Total = [0, 0, 0, 0, 0]


class SpendChanges(NamedTuple):
    """What a flush sends: (entity key, record) for `usage.spend`, then (key, record) for the changelog."""

    spend: list[tuple[str, bytes]]
    changelog: list[tuple[bytes, bytes]]
    priced: int
    """The offset of `usage.priced` that may be committed once all of it is delivered."""


class SpendState:
    """Totals per entity and hour, day, month of one source partition."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self.fence = -1
        """The last source offset that is applied; -1 before the first."""
        self.priced: int | None = None
        """The offset of `usage.priced` that comes next; None before the first."""
        self._level_at = -1
        self._days: dict[tuple[str, str, int], _Day] = {}
        self._months: dict[tuple[str, str, int], _Total] = {}
        self._versions: dict[_Entity, int] = {}
        self._dirty: dict[_Entity, set[int]] = {}
        self._to_rewrite: list[tuple[str, str, int]] = []
        self._has_moved = False

    def __len__(self) -> int:
        """How many entities and days are remembered."""
        return len(self._days)

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take in a record of the changelog: per key the highest fence wins, whatever the order.

        Raises DataLossError for a record that no meter writes.
        """
        try:
            if key == FENCE_KEY:
                self._load_fence(value)
            else:
                self._load_day(key.decode(), value)
        except (msgspec.MsgspecError, ValueError) as error:
            raise DataLossError(
                f"the spend changelog holds a record that no meter of this version writes: key {key!r}: {error}"
            ) from error

    def loaded(self) -> None:
        """Say that the changelog is read to its end."""
        for (scope, scope_id, start), day in self._days.items():
            _add(self._months.setdefault((scope, scope_id, _month(start)), _zero()), day.total)
            entity = (scope, scope_id)
            self._versions[entity] = max(day.fence, self._versions.get(entity, -1))
        self._level_at = max(self._versions.values(), default=-1)

    @property
    def is_catching_up(self) -> bool:
        """Whether some totals are ahead of the partition: a flush was cut off, and its rows come again.

        A month is the sum of days with fences of their own; only when all are level it is true of one offset.
        """
        return self._level_at > self.fence

    def apply(self, rows: Rows, covered_to: int, priced: int) -> None:
        """Count rows that lie behind the fence; their record covers the source partition up to `covered_to`.

        `priced` is the offset of `usage.priced` behind that record.
        """
        is_counted = self._is_counted if self.is_catching_up else None
        for scope, ids in (
            ("user", rows.users),
            ("team", rows.teams),
            ("org", rows.orgs),
            ("provider", rows.providers),
            ("model", rows.models),
            ("operation", rows.operations),
        ):
            for (scope_id, hour), used in _group(scope, ids, rows, is_counted).items():
                self._count(scope, scope_id, hour, used)
        self.fence = covered_to
        self.skip(priced)

    def skip(self, priced: int) -> None:
        """Pass a record of `usage.priced` that holds nothing new."""
        self.priced = priced
        self._has_moved = True

    def take_changes(self) -> SpendChanges | None:
        """Return what changed since the last call; None when nothing did, or while catching up."""
        if not self._has_moved or self.is_catching_up or self.priced is None:
            return None
        spend: list[tuple[str, bytes]] = []
        changelog: list[tuple[bytes, bytes]] = []
        for (scope, scope_id), hours in self._dirty.items():
            key = entity_key(scope, scope_id)
            days = {_day(hour) for hour in hours}
            spend.append((key, self._update(scope, scope_id, hours, days)))
            for start in days:
                changelog.append((f"{key}|{_date(start)}".encode(), self._record(scope, scope_id, start)))
        changelog.append((FENCE_KEY, _encode(_FenceRecord(self.fence, self.priced))))
        self._dirty = {}
        self._has_moved = False
        return SpendChanges(spend, changelog, self.priced)

    def rewrites(self, count: int) -> list[tuple[bytes, bytes]]:
        """Return up to so many records for the changelog once more; call after call all of them, in turn.

        Records that changed and were not taken yet are left out: what is remembered must have been published.
        """
        if self.is_catching_up:
            return []
        if not self._to_rewrite:
            self._to_rewrite = list(self._days)
        chosen, self._to_rewrite = self._to_rewrite[:count], self._to_rewrite[count:]
        return [
            (f"{entity_key(scope, scope_id)}|{_date(start)}".encode(), self._record(scope, scope_id, start))
            for scope, scope_id, start in chosen
            if (scope, scope_id) not in self._dirty
        ]

    def _is_counted(self, scope: str, scope_id: str, hour: int, offset: int) -> bool:
        day = self._days.get((scope, scope_id, _day(hour)))
        return day is not None and offset <= day.fence

    def _count(self, scope: str, scope_id: str, hour: int, used: _Total) -> None:
        """Add what an entity used in an hour; behind the total stands the last offset that is in it."""
        *total, last = used
        start = _day(hour)
        place = (scope, scope_id, start)
        day = self._days.get(place)
        if day is None:
            day = self._days[place] = _Day()
        # Hours come one by one, and the last of them may end before another.
        day.fence = max(day.fence, last)
        _add(day.hours.setdefault(hour, _zero()), total)
        _add(day.total, total)
        _add(self._months.setdefault((scope, scope_id, _month(start)), _zero()), total)
        entity = (scope, scope_id)
        self._versions[entity] = max(last, self._versions.get(entity, -1))
        self._dirty.setdefault(entity, set()).add(hour)

    def _update(self, scope: str, scope_id: str, hours: set[int], days: set[int]) -> bytes:
        """Return the record of `usage.spend`: a SpendUpdate in JSON."""
        totals = [_total("hour", hour, self._days[scope, scope_id, _day(hour)].hours[hour]) for hour in hours]
        totals += [_total("day", start, self._days[scope, scope_id, start].total) for start in days]
        totals += [
            _total("month", month, self._months[scope, scope_id, month])
            for month in {_month(start) for start in days}
        ]
        return _encode(
            {
                "scope": scope,
                "scope_id": scope_id,
                "source_partition": self._partition,
                "version": self._versions[scope, scope_id],
                "totals": totals,
            }
        )

    def _record(self, scope: str, scope_id: str, start: int) -> bytes:
        day = self._days[scope, scope_id, start]
        hours = {str(hour): (r, i, o, str(cost), u) for hour, (r, i, o, cost, u) in day.hours.items()}
        return _encode(_DayRecord(day.fence, hours))

    def _load_fence(self, value: bytes | None) -> None:
        if value is None:
            return
        record = _decode_fence(value)
        if self.priced is None or (record.source, record.priced) > (self.fence, self.priced):
            self.fence, self.priced = record.source, record.priced

    def _load_day(self, key: str, value: bytes | None) -> None:
        name, _, date = key.rpartition("|")
        scope, _, scope_id = name.partition(":")
        place = (Scope(scope).value, scope_id, _seconds(date))
        if value is None:
            self._days.pop(place, None)
            return
        record = _decode_day(value)
        known = self._days.get(place)
        if known is not None and record.fence < known.fence:
            return
        day = self._days[place] = _Day()
        day.fence = record.fence
        for hour, (requests, input_tokens, output_tokens, cost, unpriced) in record.hours.items():
            total = day.hours[int(hour)] = [requests, input_tokens, output_tokens, int(cost), unpriced]
            _add(day.total, total)


def _group(
    scope: str,
    ids: list[str | None],
    rows: Rows,
    is_counted: Callable[[str, str, int, int], bool] | None,
) -> dict[tuple[str, int], _Total]:
    """Return what each (scope id, hour) used, with the last offset behind the five numbers."""
    groups: dict[tuple[str, int], _Total] = {}
    columns: Any = zip(
        ids,
        rows.hours,
        rows.requests,
        rows.input_tokens,
        rows.output_tokens,
        rows.costs,
        rows.offsets,
        strict=True,
    )
    for scope_id, hour, requests, input_tokens, output_tokens, cost, offset in columns:
        if not scope_id or (is_counted is not None and is_counted(scope, scope_id, hour, offset)):
            continue
        used = groups.get((scope_id, hour))
        if used is None:
            used = groups[scope_id, hour] = [0, 0, 0, 0, 0, 0]
        used[0] += requests
        used[1] += input_tokens
        used[2] += output_tokens
        if cost is None:
            used[4] += requests
        else:
            used[3] += cost
        used[5] = offset
    return groups


def _zero() -> _Total:
    return [0, 0, 0, 0, 0]


def _add(total: _Total, more: _Total) -> None:
    for place in range(5):
        total[place] += more[place]


def _total(period: str, start: int, total: _Total) -> dict[str, Any]:
    requests, input_tokens, output_tokens, cost, unpriced = total
    return {
        "period": period,
        "period_start": start,
        "requests": requests,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cost_pico_usd": str(cost),
        "unpriced_requests": unpriced,
    }


def _day(second: int) -> int:
    return second - second % _DAY_SECONDS


@lru_cache(maxsize=4096)
def _month(day: int) -> int:
    return period_start(Period.MONTH, day)


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    return datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d")


def _seconds(date: str) -> int:
    return int(datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
