"""What must stand in ClickHouse after a run, worked out from the events alone, and what does stand there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from clickhouse_connect.driver import Client

# US dollars for a million tokens of input, output, and input that was read from the cache: the list prices of
# November 2026, typed in once more. Whatever a contender takes its prices from, it must come to these.
_LIST_PRICES = {
    "gpt-4o": ("2.50", "10.00", "1.25"),
    "gpt-4o-mini": ("0.15", "0.60", "0.075"),
    "claude-sonnet-4-5": ("3.00", "15.00", "0.30"),
    "gemini-2.5-flash": ("0.30", "2.50", "0.03"),
}
_PICO = 10**12
# A million tokens at $1 are 10^12 pico-dollars: a token is 10^6.
_PRICES = {
    model: tuple(int(Decimal(price) * 10**6) for price in prices) for model, prices in _LIST_PRICES.items()
}

Key = tuple[str, str, str]
"""Scope ("user" or "team"), its id, and the UTC day."""


@dataclass
class Answers:
    """How many rows, how many ids among them, what all cost, and for each key requests and pico-USD."""

    rows: int = 0
    ids: int = 0
    cost_pico_usd: int = 0
    totals: dict[Key, tuple[int, int]] = field(default_factory=dict)

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one more event, with an id of its own."""
        cost = cost_pico_usd(event)
        day = event["timestamp"].date().isoformat()
        self.rows += 1
        self.ids += 1
        self.cost_pico_usd += cost
        for scope in ("user", "team"):
            key = (scope, event[f"{scope}_id"], day)
            requests, spent = self.totals.get(key, (0, 0))
            self.totals[key] = requests + 1, spent + cost


def cost_pico_usd(event: Mapping[str, Any]) -> int:
    """Return what the call costs; `input_tokens` includes what was read from the cache."""
    per_input, per_output, per_read = _PRICES[event["model"]]
    read: int = event["cache_read_tokens"]
    fresh: int = event["input_tokens"] - read
    output: int = event["output_tokens"]
    return fresh * per_input + read * per_read + output * per_output


def problems(want: Answers, got: Answers) -> list[str]:
    """Name what is wrong, in a few words each; empty when all is right."""
    found = []
    if got.rows != want.rows:
        found.append(f"{got.rows:,} rows instead of {want.rows:,}")
    if got.ids != want.ids:
        found.append(f"{got.ids:,} ids instead of {want.ids:,}")
    if got.cost_pico_usd != want.cost_pico_usd:
        found.append(f"cost {got.cost_pico_usd} instead of {want.cost_pico_usd} pico-USD")
    wrong = sorted(
        key for key in want.totals.keys() | got.totals.keys() if want.totals.get(key) != got.totals.get(key)
    )
    if wrong:
        first = wrong[0]
        found.append(
            f"{len(wrong)} of {len(want.totals)} totals, the first {' '.join(first)}: "
            f"{got.totals.get(first)} instead of {want.totals.get(first)}"
        )
    return found


def read_contender(client: Client, rows: str, totals: str) -> Answers:
    """Read the tables of contenders/contract.py; of a total the row that was written last counts."""
    return _answers(
        client.query(f"SELECT count(), uniqExact(event_id), sum(cost_pico_usd) FROM {rows}").result_rows[0],
        client.query(f"SELECT scope, scope_id, day, requests, cost_pico_usd FROM {totals} FINAL").result_rows,
        1,
    )


def read_tokentide(client: Client) -> Answers:
    """Read the views that people query."""
    by = "SELECT '{0}', {0}_id, toDate(period_start), requests, cost_usd FROM spend_by_{0} WHERE period = 'day'"
    return _answers(
        client.query("SELECT count(), uniqExact(event_id), sum(cost_usd) FROM usage").result_rows[0],
        [row for scope in ("user", "team") for row in client.query(by.format(scope)).result_rows],
        _PICO,
    )


def _answers(whole: Any, totals: Any, unit: int) -> Answers:
    rows, ids, cost = whole
    return Answers(
        rows,
        ids,
        int((cost or 0) * unit),
        {
            (scope, scope_id, _iso(day)): (requests, int(spent * unit))
            for scope, scope_id, day, requests, spent in totals
        },
    )


def _iso(day: date) -> str:
    return day.isoformat()
