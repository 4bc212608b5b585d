"""What a chunk adds up to: numpy's sums are those of a loop over the rows."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokentide.streams.rows import Rows
from tokentide.streams.usage_groups import groups

names = st.sampled_from(["ann", "bob|1", "", None])
rows_drawn = st.lists(
    st.tuples(
        st.integers(0, 2),  # hour
        names,
        names,
        st.integers(0, 3),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.one_of(st.none(), st.integers(-(10**9), 10**12), st.integers(2**60, 2**70)),
    ),
    max_size=80,
)


def rows_of(drawn: list[Any]) -> Rows:
    hours, users, teams, requests, inputs, outputs, costs = zip(*drawn, strict=True) if drawn else ((),) * 7
    count = len(drawn)
    return Rows(
        offsets=list(range(7, 7 + 3 * count, 3)),
        hours=[hour * 3600 for hour in hours],
        users=list(users),
        teams=list(teams),
        orgs=[None] * count,
        providers=["openai"] * count,
        models=["openai/gpt-4o"] * count,
        operations=[""] * count,
        requests=list(requests),
        input_tokens=list(inputs),
        output_tokens=list(outputs),
        costs=list(costs),
    )


def added_up(rows: Rows, *, one_by_one: bool) -> list[tuple[str, list[Any]]]:
    """With a question that is never answered by yes, a loop goes over the rows."""
    asked = (lambda *_: False) if one_by_one else None
    return [(scope, list(found)) for scope, found in groups(rows, asked)]


@settings(max_examples=200, deadline=None)
@given(rows_drawn)
@example([(0, "ann", None, 1, 5, 5, 10**12)] * 40)
@example([(hour % 3, "ann", "", 1, 5, 5, None) for hour in range(40)])
@example([(0, "ann", "bob|1", 1, 5, 5, 2**62)] * 40)
def test_all_at_once_is_one_by_one(drawn: list[Any]) -> None:
    rows = rows_of(drawn)

    assert added_up(rows, one_by_one=False) == added_up(rows, one_by_one=True)


@pytest.mark.parametrize("count", [3, 100])
def test_a_row_without_a_name_counts_in_no_total_and_the_last_offset_is_kept(count: int) -> None:
    rows = rows_of([(1, "ann", "", 1, 10, 2, 5), *([(1, None, "", 1, 1, 1, None)] * count)])

    found = dict(added_up(rows, one_by_one=False))

    [(name, hour, used, last)] = found["user"]
    assert (name, hour, used.requests, used.cost_pico_usd, last) == ("ann", 3600, 1, 5, 7)
    assert found["team"] == found["org"] == found["operation"] == []
    [(_, _, used, last)] = found["provider"]
    assert (used.requests, used.unpriced_requests, last) == (1 + count, count, 7 + 3 * count)
