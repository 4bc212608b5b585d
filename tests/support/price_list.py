"""What a call costs, from the providers' price lists and from `usage.prices`: slow and obvious.

Prices are written down here once more (USD per million tokens: input, cached input, output); the traffic uses these
models only.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from confluent_kafka import Message

__all__ = ["PRICES", "PriceList"]

PRICES = {
    ("openai", "gpt-4o"): (Decimal("2.50"), Decimal("1.25"), Decimal("10.00")),
    ("openai", "gpt-4o-mini"): (Decimal("0.15"), Decimal("0.075"), Decimal("0.60")),
    ("anthropic", "claude-sonnet-4-5"): (Decimal("3.00"), Decimal("0.30"), Decimal("15.00")),
    ("google", "gemini-2.5-flash"): (Decimal("0.30"), Decimal("0.03"), Decimal("2.50")),
}


class PriceList:
    """The prices that hold when own prices up to some offset of `usage.prices` are known."""

    def __init__(self, own: Sequence[Message] = ()) -> None:
        """`own` holds all records of `usage.prices`."""
        self._own = [(int(message.offset() or 0), json.loads(message.value() or b"")) for message in own]
        self.end = max((offset + 1 for offset, _ in self._own), default=0)
        """The offset behind its last record."""

    def cost(self, event: dict[str, Any], known: int) -> Decimal | None:
        """Return the cost in USD with the own prices below offset `known`; None for a model without a price."""
        own = self._own_price(event, known)
        if own is None:
            listed = PRICES.get((event["provider"], event["model"]))
            if listed is None:
                return None
            per_input, per_cached, per_output = listed
            per_request = Decimal(0)
        else:
            per_input, per_output = Decimal(own["input_usd_per_mtok"]), Decimal(own["output_usd_per_mtok"])
            cached = own["cache_read_usd_per_mtok"]
            per_cached = per_input if cached is None else Decimal(cached)
            per_request = Decimal(own["usd_per_request"])
        cached_tokens = event["cache_read_tokens"]
        dollars_times_million: Decimal = (
            (event["input_tokens"] - cached_tokens) * per_input
            + cached_tokens * per_cached
            + event["output_tokens"] * per_output
        )
        return dollars_times_million / 1_000_000 + per_request

    def _own_price(self, event: dict[str, Any], known: int) -> dict[str, Any] | None:
        """Return the record that holds: of each `valid_from` the last one, of these the newest before the event."""
        last: dict[datetime, dict[str, Any]] = {}
        for offset, record in self._own:
            if offset < known and (record["provider"], record["model"]) == (
                event["provider"],
                event["model"],
            ):
                last[datetime.fromisoformat(record["valid_from"])] = record
        moment = datetime.fromisoformat(event["timestamp"])
        holding = [start for start, record in last.items() if start <= moment and not record["withdrawn"]]
        return last[max(holding)] if holding else None
