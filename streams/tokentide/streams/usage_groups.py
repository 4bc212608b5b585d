"""What the rows of a chunk add up to, per entity and hour."""

from collections.abc import Callable, Iterator
from typing import Any

from tokentide.streams.day import Total
from tokentide.streams.rows import Rows

__all__ = ["group", "scopes"]


def scopes(rows: Rows) -> Iterator[tuple[str, list[str | None]]]:
    """Yield each scope with the column of its names; a row without one counts in no total of the scope."""
    yield "user", rows.users
    yield "team", rows.teams
    yield "org", rows.orgs
    yield "provider", rows.providers
    yield "model", rows.models
    yield "operation", rows.operations


def group(
    scope: str,
    ids: list[str | None],
    rows: Rows,
    is_counted: Callable[[str, str, int, int], bool] | None,
) -> dict[tuple[str, int], Total]:
    """Return what each (scope id, hour) used, with the last offset behind the five numbers.

    `is_counted` says of a scope, an id, an hour and an offset whether the total has it already.
    """
    groups: dict[tuple[str, int], Total] = {}
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
