"""A day of an entity and its record: written in parts, it is what a whole one would be."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.streams.day import Day, day_record
from tokentide.streams.total import Total

DAY = 1_796_083_200
counts = st.tuples(
    st.integers(0, 23), st.integers(0, 3), st.integers(0, 10**6), st.integers(-5, 2**70), st.booleans()
)


@settings(max_examples=200, deadline=None)
@given(st.lists(counts, min_size=1, max_size=30))
def test_a_record_says_all_hours_whenever_it_is_written_or_read_back(drawn: list[tuple[int, ...]]) -> None:
    day, expected = Day(), dict[int, Total]()
    for offset, (number, requests, tokens, cost, is_flushed) in enumerate(drawn):
        hour, used = DAY + number * 3600, Total(requests, tokens, tokens // 2, cost, requests)
        day.count(hour, used, offset)
        expected.setdefault(hour, Total()).add(used)
        if is_flushed:
            record = json.loads(day.record())
            hours = {
                str(hour): [
                    t.requests,
                    t.input_tokens,
                    t.output_tokens,
                    str(t.cost_pico_usd),
                    t.unpriced_requests,
                ]
                for hour, t in expected.items()
            }
            assert record == {"fence": offset, "hours": hours}
            if offset % 3 == 0:
                day = Day.read(day.record())

    again = Day.read(day.record())

    assert (again.fence, again.hours, again.total) == (day.fence, day.hours, day.total)
    assert day.hours == expected
    _, whole = day_record("user", "ann", DAY, day.fence, expected)
    assert json.loads(whole) == json.loads(day.record())
