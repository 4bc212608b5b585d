"""The budgets of a seed, and every revision of them."""

import json
import time
from decimal import Decimal
from typing import Any

from support.oracle import Expected, read_topic

from tokentide.console.budgets import new_budget, write_budget
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import ServiceUnavailableError

__all__ = ["Ledger"]

_BUDGETS: list[dict[str, Any]] = [
    {"budget_id": "team-day", "scope": "team", "scope_id": "team-03", "period": "day", "unit": "usd", "limit": "5"},
    {"budget_id": "user-month", "scope": "user", "scope_id": "user-0007", "period": "month", "unit": "tokens",
     "limit": "200000"},
    {"budget_id": "model-day", "scope": "model", "scope_id": "openai/gpt-4o", "period": "day", "unit": "usd",
     "limit": "10", "thresholds": (10, 50, 100, 500)},
    {"budget_id": "never", "scope": "org", "scope_id": "acme", "period": "month", "unit": "usd", "limit": "100000"},
]  # fmt: skip
_WRITE_SECONDS = 90.0
_KNOWN_SECONDS = 60.0


class Ledger:
    """What was written to `usage.budgets`."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._current = {budget["budget_id"]: {**budget, "revision": 1} for budget in _BUDGETS}
        self.superseded: list[dict[str, Any]] = []
        """Revisions that held for a while."""

    @property
    def current(self) -> list[dict[str, Any]]:
        """The last revision of every budget."""
        return list(self._current.values())

    def write_all(self) -> None:
        """Write the first revisions."""
        for budget in self.current:
            self._write(budget)

    def change(self, budget_id: str, limit: str) -> None:
        """Write a new revision: its alerts are new alerts."""
        before = self._current[budget_id]
        self.superseded.append(before)
        self._current[budget_id] = {**before, "limit": limit, "revision": before["revision"] + 1}
        self._write(self._current[budget_id])

    def wait_until_known(self) -> None:
        """Return when `usage.limits` says of each budgeted entity that the last revisions are known.

        Only then does an event amend a closed period under the last revision, and not under the one before.
        """
        written = max(
            int(message.offset() or 0) + 1
            for message in read_topic(self._settings.kafka.broker, self._settings.topics.budgets)
        )
        deadline = time.monotonic() + _KNOWN_SECONDS
        while True:
            known: dict[str, int] = {}
            for message in read_topic(self._settings.kafka.broker, self._settings.topics.limits):
                limits = json.loads(message.value() or b"")
                key = f"{limits['scope']}:{limits['scope_id']}"
                known[key] = max(known.get(key, 0), limits["budgets_version"])
            late = [key for key in self._entities() if known.get(key, 0) < written]
            if not late:
                return
            if time.monotonic() > deadline:
                raise ServiceUnavailableError(f"the last budgets are not known of {', '.join(late)}")
            time.sleep(0.5)

    def amendments(self, expected: Expected) -> list[dict[str, Any]]:
        """Return one event for every period of every budgeted entity, open or closed.

        With them every alert of the last revisions is due: a new revision looks by itself at open periods only.
        """
        budgeted = {(budget["scope"], budget["scope_id"], budget["period"]) for budget in self.current}
        events = []
        for scope, scope_id, period, start in sorted(expected.totals):
            if (scope, scope_id, period) not in budgeted:
                continue
            provider, model = ("google", "gemini-2.5-flash") if scope != "model" else scope_id.split("/")
            events.append(
                {
                    "event_id": f"amends-{scope}-{period}-{start}",
                    "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start + 1)),
                    "provider": provider,
                    "model": model,
                    "input_tokens": 1,
                    "output_tokens": 0,
                    "cache_read_tokens": 0,
                    **({f"{scope}_id": scope_id} if scope != "model" else {}),
                }
            )
        return events

    def _entities(self) -> set[str]:
        return {f"{budget['scope']}:{budget['scope_id']}" for budget in self.current}

    def _write(self, budget: dict[str, Any]) -> None:
        """Write it, however long the broker is away: the same record twice is one revision."""
        made = new_budget(**{**budget, "limit": Decimal(budget["limit"])})
        deadline = time.monotonic() + _WRITE_SECONDS
        while True:
            try:
                return write_budget(self._settings.kafka, self._settings.topics.budgets, made)
            except ServiceUnavailableError:
                if time.monotonic() > deadline:
                    raise
