"""What every contender shares: where things are, what a token costs, and the signals for the clock.

Standard library only, for each contender lives in an environment of its own: `contenders/NAME.txt` pins what is
installed there, and the runner starts `contenders/NAME.py` with that environment's Python and these variables:

* `BENCH_BROKER`: bootstrap address of Kafka; `BENCH_TOPIC`: the topic, filled with `BENCH_EVENTS` JSON events;
* `BENCH_CLICKHOUSE`: URL of ClickHouse; `BENCH_ROWS` and `BENCH_TOTALS`: the tables to fill, with database;
* `BENCH_WARM`: after so many events the clock starts; `BENCH_FOLDER`: an empty folder for state and signals.

A signal is a file in that folder: `warm` holds how many events have been taken in (`BENCH_WARM` when it is empty),
`done` holds nothing. Between the two the runner reads the CPU of the process and all its children, so it does not
matter in how many processes or in what language a contender works.

A contender reads the topic from its beginning, prices each event, keeps a total for each user and each team and
UTC day, writes one row an event into `BENCH_ROWS`, and the totals into `BENCH_TOTALS`, where for one key the row
that was written last counts. It calls `taken()` as it goes and `done()` when everything is in ClickHouse, and then
ends.
"""

import os
from pathlib import Path

BROKER = os.environ["BENCH_BROKER"]
TOPIC = os.environ["BENCH_TOPIC"]
EVENTS = int(os.environ["BENCH_EVENTS"])
WARM = int(os.environ["BENCH_WARM"])
CLICKHOUSE = os.environ["BENCH_CLICKHOUSE"]
ROWS = os.environ["BENCH_ROWS"]
TOTALS = os.environ["BENCH_TOTALS"]
FOLDER = Path(os.environ["BENCH_FOLDER"])

ROW_COLUMNS = (
    "event_id",
    "timestamp",
    "user_id",
    "team_id",
    "provider",
    "model",
    "operation",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cost_pico_usd",
)
"""Of `BENCH_ROWS`: String, DateTime64(6, 'UTC'), five times String, three times UInt32, Int64."""

TOTAL_COLUMNS = ("scope", "scope_id", "day", "requests", "cost_pico_usd")
"""Of `BENCH_TOTALS`: String ("user" or "team"), String, Date, UInt64, Int64."""

PRICES = {
    "gpt-4o": (2_500_000, 10_000_000, 1_250_000),
    "gpt-4o-mini": (150_000, 600_000, 75_000),
    "claude-sonnet-4-5": (3_000_000, 15_000_000, 300_000),
    "gemini-2.5-flash": (300_000, 2_500_000, 30_000),
}
"""Pico-USD for a token of input, output, and input read from the cache (genai-prices 0.2.3, 25 November 2026)."""

_taken = 0


def cost(model: str, input_tokens: int, output_tokens: int, cache_read_tokens: int) -> int:
    """Return what a call costs in pico-USD; `input_tokens` includes what was read from the cache."""
    per_input, per_output, per_read = PRICES[model]
    return (
        (input_tokens - cache_read_tokens) * per_input
        + cache_read_tokens * per_read
        + output_tokens * per_output
    )


def taken(count: int = 1) -> bool:
    """Count events that were taken in; return whether these were the last."""
    global _taken
    before, _taken = _taken, _taken + count
    if before < WARM <= _taken:
        # With how many they are, for a batch may go beyond; in one step, for the runner reads it at once.
        (FOLDER / "warm.new").write_text(str(_taken))
        (FOLDER / "warm.new").rename(FOLDER / "warm")
    return _taken >= EVENTS


def done() -> None:
    """Say that every row and total is in ClickHouse."""
    (FOLDER / "done").touch()
