"""What the rows of a chunk add up to, per entity and hour."""

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from tokentide.streams.rows import Rows
from tokentide.streams.total import Total

__all__ = ["Group", "groups", "scopes"]

_Ints = npt.NDArray[np.int64]
_FEW_ROWS = 32
"""For so few rows numpy costs more than it saves."""

Group = tuple[str, int, Total, int]
"""A name, an hour, what it used in it, and the last offset that is in that."""


def scopes(rows: Rows) -> Iterator[tuple[str, list[str | None]]]:
    """Yield each scope with the column of its names; a row without one counts in no total of the scope."""
    yield "user", rows.users
    yield "team", rows.teams
    yield "org", rows.orgs
    yield "provider", rows.providers
    yield "model", rows.models
    yield "operation", rows.operations


def groups(
    rows: Rows, is_counted: Callable[[str, str, int, int], bool] | None
) -> Iterator[tuple[str, Iterable[Group]]]:
    """Yield each scope with what its names used, hour by hour.

    `is_counted` says of a scope, an id, an hour and an offset whether the total has it already.
    """
    is_simple = is_counted is None and len(rows.offsets) > _FEW_ROWS
    columns = _columns(rows) if is_simple else None
    for scope, ids in scopes(rows):
        if columns is None:
            yield scope, _one_by_one(scope, ids, rows, is_counted)
        else:
            yield scope, _all_at_once(ids, rows.hours, columns)


def _columns(rows: Rows) -> list[_Ints] | None:
    """Return the numbers of the rows, offsets behind them; None when sums may not fit into 64 bits."""
    costs = [0 if cost is None else cost for cost in rows.costs]
    unpriced = [
        requests if cost is None else 0 for requests, cost in zip(rows.requests, rows.costs, strict=True)
    ]
    columns = []
    for numbers in (rows.requests, rows.input_tokens, rows.output_tokens, costs, unpriced):
        try:
            column = np.array(numbers, np.int64)
        except OverflowError:
            return None
        if len(column) and int(np.abs(column).max()) * len(column) >= 2**62:
            return None
        columns.append(column)
    return [*columns, np.array(rows.offsets, np.int64)]


def _all_at_once(ids: list[str | None], hours: list[int], columns: list[_Ints]) -> Iterable[Group]:
    """Number the pairs of name and hour, and let numpy add up what has one number."""
    is_one_hour = len(set(hours)) == 1
    keys: Any = ids if is_one_hour else list(zip(ids, hours, strict=True))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    places = np.fromiter(map(numbers.__getitem__, keys), np.intp, len(keys))
    *summed, offsets = columns
    sums = []
    for column in summed:
        total = np.zeros(len(numbers), np.int64)
        np.add.at(total, places, column)
        sums.append(total.tolist())
    last = np.empty(len(numbers), np.int64)
    last[places] = offsets  # of several rows the last one stays
    names: Any = (numbers, repeat(hours[0])) if is_one_hour else zip(*numbers, strict=True)
    found: Any = zip(*names, map(Total, *sums), last.tolist(), strict=False)
    return filter(itemgetter(0), found)


def _one_by_one(
    scope: str,
    ids: list[str | None],
    rows: Rows,
    is_counted: Callable[[str, str, int, int], bool] | None,
) -> Iterable[Group]:
    found: dict[tuple[str, int], list[int]] = {}
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
        used = found.get((scope_id, hour))
        if used is None:
            used = found[scope_id, hour] = [0, 0, 0, 0, 0, 0]
        used[0] += requests
        used[1] += input_tokens
        used[2] += output_tokens
        if cost is None:
            used[4] += requests
        else:
            used[3] += cost
        used[5] = offset
    return ((scope_id, hour, Total(*used), last) for (scope_id, hour), (*used, last) in found.items())
