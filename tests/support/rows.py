"""Rows of `usage.priced`, a tuple each."""

from tokentide.streams.rows import Rows

Row = tuple[int, int, str | None, str | None, int, int | None]
"""offset, hour, user, team, tokens, cost in pico-USD"""


def rows_of(rows: list[Row]) -> Rows:
    """Return them as the meter reads them from a record."""
    return Rows(
        offsets=[row[0] for row in rows],
        hours=[row[1] for row in rows],
        users=[row[2] for row in rows],
        teams=[row[3] for row in rows],
        orgs=[None] * len(rows),
        providers=["openai"] * len(rows),
        models=["openai/gpt-4o"] * len(rows),
        operations=[""] * len(rows),
        requests=[1] * len(rows),
        input_tokens=[row[4] for row in rows],
        output_tokens=[row[4] // 2 for row in rows],
        costs=[row[5] for row in rows],
    )
