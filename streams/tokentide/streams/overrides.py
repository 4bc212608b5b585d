"""Own prices: what the records of `usage.prices` amount to, for the catalogue to ask first."""

import logging
from bisect import bisect_right
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from pydantic import ValidationError

from tokentide.schemas import PriceOverride, pico_from_usd
from tokentide.schemas.chunk import Record
from tokentide.streams.plan import Counts, Parts

__all__ = ["Override", "Overrides"]

_LOGGER = logging.getLogger(__name__)
_MTOK = 1_000_000


class Override(NamedTuple):
    """The own price of one model, in whole pico-USD for one token and one request."""

    model: str
    """As rows name it: provider/model."""
    per_input: int
    per_output: int
    per_cache_read: int
    per_cache_write: int
    per_request: int
    per_mtok: tuple[Decimal, Decimal, Decimal]
    """USD for a million tokens of input, of output, and of input read from a cache."""

    def parts(self, counts: Counts, requests: int) -> Parts:
        """Return what the parts of a call cost.

        Tokens of audio, of images and of reasoning cost what input and output cost; searches, characters, pages,
        images and seconds cost nothing.
        """
        tokens_in, tokens_out, read, write = counts[:4]
        return Parts(
            (tokens_in - read - write) * self.per_input,
            read * self.per_cache_read + write * self.per_cache_write,
            tokens_out * self.per_output,
            requests * self.per_request,
        )


class _Held(NamedTuple):
    """The overrides of one model, by the moments from which they hold."""

    moments: list[datetime]
    overrides: list[Override]


class Overrides:
    """What the records of `usage.prices`, applied in their order, amount to."""

    def __init__(self) -> None:
        self.version = 0
        """The offset of the topic up to which (exclusive) it is known."""
        self._records: dict[tuple[str, str], dict[datetime, PriceOverride]] = {}
        self._held: dict[tuple[str, str], _Held] = {}

    def apply(self, record: Record) -> None:
        """Take in a record; one that is no override is logged and left out."""
        self.version = record.offset + 1
        try:
            override = PriceOverride.model_validate_json(record.value or b"")
        except ValidationError as error:
            _LOGGER.warning("the price at offset %d is left out: %s", record.offset, error)
            return
        name = (override.provider, override.model)
        records = self._records.setdefault(name, {})
        records[override.valid_from] = override
        held = sorted(moment for moment, record in records.items() if not record.withdrawn)
        self._held[name] = _Held(held, [_integers(records[moment]) for moment in held])
        if not held:
            del self._held[name]

    def knows(self, provider: str, model: str) -> bool:
        """Whether the model has an own price at some time."""
        return (provider, model) in self._held

    def find(self, provider: str, model: str, moment: datetime) -> Override | None:
        """Return what the model cost at a moment; None when the catalogue says."""
        held = self._held and self._held.get((provider, model))
        if not held:
            return None
        place = bisect_right(held.moments, moment)
        return held.overrides[place - 1] if place else None


def _integers(price: PriceOverride) -> Override:
    read, write = price.cache_read_usd_per_mtok, price.cache_write_usd_per_mtok
    usd_in = price.input_usd_per_mtok
    per_mtok = (
        usd_in,
        price.output_usd_per_mtok,
        usd_in if read is None else read,
        usd_in if write is None else write,
    )
    per_input, per_output, per_read, per_write = (
        # Exact: the schema allows six places, so a millionth of it is whole pico-USD.
        pico_from_usd(usd) // _MTOK
        for usd in per_mtok
    )
    return Override(
        price.key(),
        per_input,
        per_output,
        per_read,
        per_write,
        pico_from_usd(price.usd_per_request),
        per_mtok[:3],
    )
