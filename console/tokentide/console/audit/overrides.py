"""Which own price a row rests on: the records of `usage.prices`, and how many of them each row knew."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError

from tokentide.console.audit.log import LogRecord
from tokentide.console.audit.report import Difference, Source
from tokentide.schemas import PriceOverride, UsageEvent

__all__ = ["KnownPrices", "PriceStep"]


class PriceStep(NamedTuple):
    """From this offset of a source partition on, rows were priced with the overrides below `known`."""

    partition: int
    offset: int
    known: int


class KnownPrices:
    """Looks overrides up record by record; nothing of it is shared with the meter."""

    def __init__(
        self, records: Iterable[LogRecord] = (), steps: Iterable[PriceStep] = (), end: int = 0
    ) -> None:
        """`records` are all of `usage.prices`, which ends at `end`; steps come in the order of their offsets."""
        self._end = end
        self._steps: dict[int, list[PriceStep]] = {}
        for step in steps:
            self._steps.setdefault(step.partition, []).append(step)
        self._overrides: dict[str, list[tuple[int, PriceOverride]]] = {}
        for record in records:
            try:
                override = PriceOverride.model_validate_json(record.value or b"")
            except ValidationError:
                continue
            self._overrides.setdefault(override.key(), []).append((record.offset, override))

    def of(self, event: UsageEvent, partition: int, offset: int) -> PriceOverride | None:
        """Return the override that the event's row had to be priced with; None when the catalogue says.

        An event without a row is taken to know what the row before it knew.
        """
        records = self._overrides.get(f"{event.provider}/{event.model}")
        if records is None:
            return None
        known = self._known(partition, offset)
        last: dict[datetime, PriceOverride] = {}
        for place, override in records:
            if place < known:
                last[override.valid_from] = override
        holding = [
            override
            for override in last.values()
            if override.valid_from <= event.timestamp and not override.withdrawn
        ]
        return max(holding, key=lambda override: override.valid_from, default=None)

    def differences(self) -> Iterator[Difference]:
        """Yield the first row of each run of rows that name an offset of `usage.prices` which it does not have."""
        for steps in self._steps.values():
            for step in steps:
                if step.known > self._end:
                    place = f"{step.partition}:{step.offset}"
                    yield Difference(
                        Source.RAW, "price", place, None, None, "known_prices", self._end, step.known
                    )

    def _known(self, partition: int, offset: int) -> int:
        steps = self._steps.get(partition, [])
        place = bisect_right(steps, offset, key=lambda step: step.offset)
        return steps[place - 1].known if place else 0
