"""Is every copy of the numbers what the oracle says? Each answer is a list of sentences, empty when all is well."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from support.oracle import AlertName, Expected, Said, Total, expect, read_topic
from support.price_list import PriceList
from support.remembered import remembered

from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import changelog_name
from tokentide.sinks import connect

__all__ = ["Verdict", "judge"]

_SHOWN = 3
_FAST_SECONDS = 3600
"""No clock of a worker is ahead by more."""
_TOLD_SECONDS = 30.0


class Verdict:
    """What was found."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.problems = list(expected.problems)
        self.repeated_alerts = 0
        """How often the topic held an alert again."""
        self.late = 0
        """Rows whose day or month was closed when they came."""
        self.own_prices = Counter[int]()
        """Rows by the offset of `usage.prices` up to which own prices were known; 0 is not counted."""


def judge(
    settings: ConsoleSettings, budgets: list[dict[str, Any]], superseded: Sequence[dict[str, Any]] = ()
) -> Verdict:
    """Compare rows, state, totals, rejected records, alerts and limits with the Kafka log.

    `superseded` are revisions of budgets that held for a while: what they raised must be true, but which of it
    depends on when they were replaced.
    """
    client = connect(settings.clickhouse)
    try:
        rows = _read_rows(client)
        said = {(row[1], row[2]): Said(row[6], _known_prices(row[7])) for row in rows}
        expected = expect(
            _read(settings, settings.topics.events), PriceList(_read(settings, settings.topics.prices)), said
        )
        verdict = Verdict(expected)
        verdict.late = sum(about.late > 0 for about in said.values())
        verdict.own_prices = Counter(about.prices for about in said.values() if about.prices)
        verdict.problems += _rows(rows, expected)
        state = remembered(_read(settings, changelog_name(settings.meter_id, "spend")))
        verdict.problems += expected.check_closed(state.closed)
        verdict.problems += _differences("state", expected.state(state.closed), state.totals)
        verdict.problems += _totals(client, expected)
        verdict.problems += _watermarks(client, settings.partitions)
        verdict.problems += _rejected(client, expected)
        alerts = [json.loads(message.value() or b"") for message in _read(settings, settings.topics.alerts)]
        verdict.repeated_alerts = len(alerts) - len({alert["alert_id"] for alert in alerts})
        verdict.problems += _alerts(client, expected, budgets, superseded, alerts)
        verdict.problems += _limits(settings, expected, budgets)
    finally:
        client.close()
    return verdict


def _read(settings: ConsoleSettings, topic: str) -> list[Any]:
    return list(read_topic(settings.kafka.broker, topic))


def _differences(name: str, wanted: dict[Any, Any], found: dict[Any, Any]) -> Iterator[str]:
    keys = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
    if keys:
        shown = "; ".join(
            f"{key}: {wanted.get(key)} wanted, {found.get(key)} found" for key in sorted(keys)[:_SHOWN]
        )
        yield f"{name}: {len(keys)} of {len(wanted)} differ: {shown}"


def _read_rows(client: Any) -> list[tuple[Any, ...]]:
    found = client.query(
        "SELECT event_id, source_partition, source_offset, input_tokens, output_tokens, cost_usd, late, "
        "price_version FROM usage"
    )
    return [tuple(row) for row in found.result_rows]


def _known_prices(price_version: str) -> int:
    """Return the offset of `usage.prices` that a version of prices names: `genai-prices/1.2.3+prices@4`."""
    _, _, offset = price_version.partition("+prices@")
    return int(offset or 0)


def _rows(rows: list[tuple[Any, ...]], expected: Expected) -> Iterator[str]:
    found = {row[:2]: row[2:6] for row in rows}
    if len(rows) != len(found):
        yield f"rows: {len(rows)} rows for {len(found)} events"
    yield from _differences("rows", expected.rows, found)


def _totals(client: Any, expected: Expected) -> Iterator[str]:
    rows = client.query(
        "SELECT scope, scope_id, period, toUnixTimestamp(period_start), sum(requests), sum(input_tokens), "
        "sum(output_tokens), sum(cost_usd), sum(unpriced_requests) FROM spend_totals FINAL "
        "WHERE scope != '' GROUP BY 1, 2, 3, 4"
    ).result_rows
    yield from _differences("totals", expected.totals, {tuple(row[:4]): Total(*row[4:]) for row in rows})


def _watermarks(client: Any, partitions: int) -> Iterator[str]:
    """Each partition of `usage.spend` hears from each source partition, and nobody speaks of the future."""
    deadline = time.monotonic() + _TOLD_SECONDS
    while client.command("SELECT count() FROM watermarks") != partitions**2:
        if time.monotonic() > deadline:
            yield f"watermarks: not {partitions}**2 after {_TOLD_SECONDS:.0f} s"
            break
        time.sleep(0.5)
    ahead = client.command(f"SELECT count() FROM spend_totals WHERE complete_up_to > now() + {_FAST_SECONDS}")
    if ahead:
        yield f"watermarks: {ahead} totals are complete up to more than an hour ahead"


def _rejected(client: Any, expected: Expected) -> Iterator[str]:
    rows = client.query("SELECT source_partition, source_offset, reason FROM rejected").result_rows
    found = Counter((row[0], row[1]) for row in rows)
    yield from _differences("rejected", Counter(expected.rejected), found)
    if not all(row[2] for row in rows):
        yield "rejected: a record has no reason"


def _alerts(
    client: Any,
    expected: Expected,
    budgets: list[dict[str, Any]],
    superseded: Sequence[dict[str, Any]],
    alerts: list[dict[str, Any]],
) -> Iterator[str]:
    """Each exactly once, on the topic after dropping repeats by id, and in ClickHouse."""
    by_id = {alert["alert_id"]: alert for alert in alerts}
    names = Counter(
        AlertName(
            alert["kind"],
            alert["budget_id"] or alert["scope_id"],
            alert["budget_revision"],
            int(datetime.fromisoformat(alert["period_start"]).timestamp()),
            alert["threshold_pct"],
        )
        for alert in by_id.values()
    )
    # Of a period that was closed, or may have been when its events came, an alert is raised in time or not at all.
    wanted = Counter(expected.alerts(budgets, open_at=int(time.time()) + _FAST_SECONDS))
    allowed = Counter(expected.alerts(budgets) | expected.budget_alerts(list(superseded)))
    missing, too_many = list(wanted - names), list(names - allowed)
    if missing or too_many:
        yield f"alerts: missing {missing[:_SHOWN]}, too many {too_many[:_SHOWN]}"
    rows = client.query("SELECT alert_id FROM alerts").result_rows
    yield from _differences("stored alerts", Counter(by_id.keys()), Counter(row[0] for row in rows))


def _limits(settings: ConsoleSettings, expected: Expected, budgets: list[dict[str, Any]]) -> Iterator[str]:
    """The newest record of every budgeted entity says what is left."""
    newest: dict[str, dict[str, Any]] = {}
    for message in _read(settings, settings.topics.limits):
        limits = json.loads(message.value() or b"")
        key = f"{limits['scope']}:{limits['scope_id']}"
        version = (limits["budgets_version"], limits["version"])
        if key not in newest or version >= (newest[key]["budgets_version"], newest[key]["version"]):
            newest[key] = limits
    for budget in budgets:
        told = newest.get(f"{budget['scope']}:{budget['scope_id']}", {"limits": []})["limits"]
        mine = [limit for limit in told if limit["budget_id"] == budget["budget_id"]]
        if not mine:
            yield f"limits: nothing is told about {budget['budget_id']}"
        for limit in mine:
            start = int(datetime.fromisoformat(limit["period_start"]).timestamp())
            nothing = Total(0, 0, 0, Decimal(0), 0)
            total = expected.totals.get(
                (budget["scope"], budget["scope_id"], budget["period"], start), nothing
            )
            used = (
                total.cost_usd
                if budget["unit"] == "usd"
                else Decimal(total.input_tokens + total.output_tokens)
            )
            left = max(Decimal(0), Decimal(budget["limit"]) - used)
            if (Decimal(limit["used"]), Decimal(limit["left"])) != (used, left):
                yield f"limits: {budget['budget_id']} says {limit['used']} used, {used} wanted"
            if limit["exceeded"] != (used >= Decimal(budget["limit"])):
                yield f"limits: {budget['budget_id']} says exceeded={limit['exceeded']} at {used}"
