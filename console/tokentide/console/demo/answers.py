"""What ClickHouse says after a demo: the questions that an analyst would ask, through the views."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from clickhouse_connect.driver import Client

from tokentide.schemas import Unit, format_usd, pico_from_usd
from tokentide.sinks.clients import connect, translated
from tokentide.sinks.settings import ClickHouseSettings

__all__ = ["Answers", "Spend", "read_answers"]

_ROWS = """
SELECT count(), countIf(price_status = 'unpriced'),
    sum(requests), sum(input_tokens), sum(output_tokens), ifNull(sum(cost_usd), 0)
FROM usage
"""
# Each row belongs to one month, so the months add up to everything.
_BY = """
SELECT t.{column}, sum(t.requests), sum(t.input_tokens), sum(t.output_tokens), sum(t.cost_usd) AS cost
FROM {view} AS t
WHERE t.period = 'month'
GROUP BY t.{column}
ORDER BY cost DESC, t.{column}
"""
_ALERTS = """
SELECT alert_id, kind, level, scope, scope_id, period, period_start, budget_id, threshold_pct, unit, budget_limit,
    used, requests, message
FROM alerts
ORDER BY timestamp, budget_id, threshold_pct, alert_id
"""


@dataclass(frozen=True, slots=True)
class Spend:
    """What somebody or everybody used."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Self:
        """Return the spend of four columns."""
        requests, input_tokens, output_tokens, cost = row
        return cls(int(requests), int(input_tokens), int(output_tokens), Decimal(cost))

    def as_json(self) -> dict[str, int | str]:
        """Return it with the money as a string."""
        return {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": format_usd(pico_from_usd(self.cost_usd)),
        }


@dataclass(frozen=True, slots=True)
class Answers:
    """All that was asked; the largest spend first. Alerts are ready for JSON."""

    events: int
    unpriced: int
    total: Spend
    by_team: Mapping[str, Spend]
    by_user: Mapping[str, Spend]
    by_model: Mapping[str, Spend]
    alerts: tuple[Mapping[str, Any], ...]


def read_answers(settings: ClickHouseSettings) -> Answers:
    """Ask ClickHouse; raises what `connect` raises, and StorageRefusedError where the tables are missing."""
    with translated(settings, "answer"):
        client = connect(settings)
        try:
            events, unpriced, *total = client.query(_ROWS).result_rows[0]
            alerts = client.query(_ALERTS)
            return Answers(
                events=int(events),
                unpriced=int(unpriced),
                total=Spend.of(tuple(total)),
                by_team=_by(client, "spend_by_team", "team_id"),
                by_user=_by(client, "spend_by_user", "user_id"),
                by_model=_by(client, "spend_by_model", "model"),
                alerts=tuple(_alert(alerts.column_names, row) for row in alerts.result_rows),
            )
        finally:
            client.close()


def _by(client: Client, view: str, column: str) -> dict[str, Spend]:
    rows = client.query(_BY.format(view=view, column=column)).result_rows
    return {name: Spend.of(tuple(spend)) for name, *spend in rows}


def _alert(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Return the alert with amounts and times as strings, as on the topic."""
    alert = dict(zip(names, row, strict=True))
    for name, value in alert.items():
        if isinstance(value, Decimal):
            in_usd = alert["unit"] == Unit.USD
            alert[name] = format_usd(pico_from_usd(value)) if in_usd else f"{value:.0f}"
        elif isinstance(value, datetime):
            alert[name] = value.isoformat()
    return alert
