"""What a demo says at its end: for people, and as JSON."""

import json
from collections.abc import Mapping
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokentide.console.audit import differences_table, sentences, totals_table
from tokentide.console.audit import to_json as audit_to_json
from tokentide.console.demo.answers import Spend
from tokentide.console.demo.budgets import LIMIT_PERCENT
from tokentide.console.demo.run import DemoResult
from tokentide.schemas import Unit, format_usd, pico_from_usd

__all__ = ["print_summary", "to_json", "try_next"]

_TOP_USERS = 10


def to_json(result: DemoResult) -> str:
    """Return the result as one JSON object; money is a string, never a float."""
    answers, report = result.answers, result.audit
    total = answers.total.as_json()
    return json.dumps(
        {
            "events": answers.events,
            "duplicates": report.duplicates,
            "rejected": report.rejected,
            "unpriced": answers.unpriced,
            "input_tokens": total["input_tokens"],
            "output_tokens": total["output_tokens"],
            "cost_usd": total["cost_usd"],
            "by_model": {name: spend.as_json() for name, spend in answers.by_model.items()},
            "by_team": {name: spend.as_json() for name, spend in answers.by_team.items()},
            "alerts": list(answers.alerts),
            "audit": json.loads(audit_to_json(report)),
            "seconds": round(result.seconds, 1),
            "events_per_second": round(result.events_per_second, 1),
        }
    )


def print_summary(result: DemoResult, console: Console) -> None:
    """Print spend by team, user and model, the alerts and the audit."""
    answers = result.answers
    console.print(_spend_table("Spend by team", "team", answers.by_team, len(answers.by_team)))
    console.print(_spend_table(f"Spend by user, top {_TOP_USERS}", "user", answers.by_user, _TOP_USERS))
    console.print(_spend_table("Spend by model", "model", answers.by_model, len(answers.by_model)))
    for line in _budget_lines(result):
        console.print(Text(line), soft_wrap=True)
    console.print(_alert_table(result))
    console.print(totals_table(result.audit))
    if not result.audit.equal:
        console.print(differences_table(result.audit))
    for sentence in sentences(result.audit):
        console.print(Text(sentence), soft_wrap=True)
    console.print(
        Text(
            f"{answers.events:,} events, {answers.total.input_tokens:,} input and {answers.total.output_tokens:,} "
            f"output tokens, ${_money(answers.total)}; {result.seconds:.0f} s with starting and auditing, "
            f"{result.events_per_second:,.0f} events/s from the first event published to the last one in ClickHouse."
        ),
        soft_wrap=True,
    )


def try_next(broker: str, clickhouse_url: str, *, is_kept: bool) -> list[str]:
    """Return what to try next, as lines: for a stack that still runs, or for one that is gone."""
    if is_kept:
        return [
            f"It still runs. Kafka: {broker}  ClickHouse: {clickhouse_url}  Ctrl-C stops all. Try elsewhere:",
            f"  tokentide sql --clickhouse {clickhouse_url} \"SELECT * FROM spend_by_team WHERE period = 'day'\"",
            f"  tokentide budgets list --broker {broker}",
            f"  tokentide audit --broker {broker} --clickhouse {clickhouse_url}",
        ]
    return [
        "Try next:",
        "  tokentide demo --keep           the same, left running for your own questions in SQL",
        "  tokentide up                    a pipeline that keeps its data, for the events of your services",
        "  tokentide replay --trace FILE   your own trace into it, at any rate",
    ]


def _spend_table(title: str, name: str, spends: Mapping[str, Spend], most: int) -> Table:
    table = Table(name, title=title, title_justify="left")
    for heading in ("requests", "input tokens", "output tokens", "cost USD"):
        table.add_column(heading, justify="right")
    for entity, spend in list(spends.items())[:most]:
        numbers = (spend.requests, spend.input_tokens, spend.output_tokens)
        table.add_row(Text(entity), *(f"{number:,}" for number in numbers), _money(spend))
    return table


def _budget_lines(result: DemoResult) -> list[str]:
    lines = [
        f"Budgets were set to {LIMIT_PERCENT} % of what the trace uses, so that 75, 90 and 100 % all fire:"
    ]
    for budget in result.budgets:
        amount = f"${budget.limit:,f}" if budget.unit is Unit.USD else f"{budget.limit:,f} tokens"
        lines.append(f"  {budget.budget_id}: {budget.scope} {budget.scope_id}, {amount} a {budget.period}")
    return lines


def _alert_table(result: DemoResult) -> Table:
    table = Table("level", "alert", "of", "period", title="Alerts", title_justify="left")
    for heading in ("used", "limit"):
        table.add_column(heading, justify="right")
    for alert in result.answers.alerts:
        reached = f" {alert['threshold_pct']} %" if alert["threshold_pct"] else ""
        words = (
            alert["level"],
            alert["kind"].replace("_", " ") + reached,
            f"{alert['scope']} {alert['scope_id']}",
            f"{alert['period']} {alert['period_start'][:10]}",
        )
        amounts = (_amount(alert[name], alert["unit"]) for name in ("used", "budget_limit"))
        table.add_row(*(Text(word) for word in words), *amounts)
    return table


def _amount(number: str | None, unit: str | None) -> str:
    return "-" if number is None else f"{Decimal(number):,f} {unit}"


def _money(spend: Spend) -> str:
    return format_usd(pico_from_usd(spend.cost_usd))
