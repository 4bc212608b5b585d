"""What genai-prices (MIT; dated history, tiers, variants) says a call costs, in whole pico-USD.

`calc_price` takes about 200 µs: prices.py remembers what it says.
"""

from collections.abc import Iterator
from datetime import datetime
from decimal import Context, Decimal, localcontext
from typing import NamedTuple

from genai_prices import Usage, calc_price
from genai_prices.types import ModelPrice, PriceCalculation, TieredPrices, TimeOfDateConstraint

from tokentide.schemas import PriceStatus, pico_from_usd
from tokentide.streams.plan import Counts, Parts

__all__ = [
    "ALWAYS",
    "EXACT",
    "PRICEABLE",
    "RATES",
    "UNPRICED",
    "Call",
    "Price",
    "PriceContext",
    "direct",
    "name_of",
    "rated_counts",
    "rates_per_mtok",
    "tier_starts",
    "windows_of_day",
]

# Whoever calls: prices do not depend on the caller's decimal context.
EXACT = Context(prec=60)
ALWAYS = ("input_tokens", "output_tokens")
"""The counts that are always reported."""
PRICEABLE = tuple(name for name in Counts._fields if name != "images")
"""The counts that the catalogue knows."""
_PLAIN = (*ALWAYS, "cache_read_tokens", "cache_write_tokens")
_PICO = Decimal(1).scaleb(-12)
_RENAMED = {"reasoning_tokens": "output_reasoning_tokens", "pages": "input_document_pages"}
# The rate that a count needs to cost anything; the other counts are parts of input and output.
RATES = {
    "input_tokens": "input_mtok",
    "output_tokens": "output_mtok",
    "web_searches": "web_searches_kcount",
    "input_characters": "input_mchars",
    "pages": "input_document_kpages",
    "audio_seconds": "audio_hours",
}


class PriceContext(NamedTuple):
    """What besides the counts decides a price; empty strings for unknown."""

    processing: str
    service_tier: str
    speed: str

    def for_catalogue(self) -> dict[str, str]:
        """Return the context as genai-prices names it."""
        context = {}
        if self.processing == "batch":
            context["processing"] = "batch"
        if self.service_tier not in ("", "auto", "default"):
            context["service_tier"] = self.service_tier
        if self.speed:
            context["speed"] = self.speed
        return context


class Price(NamedTuple):
    """The price of one call; amounts in whole pico-USD, None when unknown; the parts add up to the total."""

    status: PriceStatus
    source: str | None
    model: str | None
    total: int | None
    input: int | None
    cache: int | None
    output: int | None
    tool: int | None
    input_per_mtok: Decimal | None
    output_per_mtok: Decimal | None
    cached_per_mtok: Decimal | None


UNPRICED = Price(PriceStatus.UNPRICED, *(None,) * 10)


class Call(NamedTuple):
    """What identifies a price, apart from counts."""

    provider: str
    model: str
    context: PriceContext

    def ask(self, moment: datetime, counts: Counts, names: tuple[str, ...]) -> PriceCalculation | None:
        """Return the catalogue's answer, or None when it does not know the model or refuses the counts."""
        usage = {
            _RENAMED.get(name, name): count
            for name, count in zip(Counts._fields, counts, strict=True)
            if name in names and (count or name in ALWAYS)
        }
        try:
            with localcontext(EXACT):
                return calc_price(
                    Usage(**usage),
                    self.model,
                    provider_id=self.provider,
                    genai_request_timestamp=moment,
                    price_context=self.context.for_catalogue() or None,
                )
        except (LookupError, ValueError):
            return None


def direct(call: Call, moment: datetime, counts: Counts) -> Price:
    """Return the price that `calc_price` gives; without the details of the counts when it refuses them."""
    status = PriceStatus.PRICED
    answer = call.ask(moment, counts, PRICEABLE)
    if answer is None:
        status = PriceStatus.APPROXIMATE
        answer = call.ask(moment, counts, _PLAIN)
    if answer is None:
        return UNPRICED
    parts = _parts(answer, counts, has_tools=status is PriceStatus.PRICED)
    per_mtok = rates_per_mtok(answer.model_price, counts.input_tokens)
    return Price(status, "genai-prices", name_of(answer), sum(parts), *parts, *per_mtok)


def rated_counts(price: ModelPrice) -> frozenset[str]:
    """Return the counts that have a rate, "requests" for a price of the call itself."""
    rates = {**RATES, "requests": "requests_kcount"}
    return frozenset(name for name, rate in rates.items() if getattr(price, rate) is not None)


def tier_starts(answer: PriceCalculation) -> set[int]:
    """Return where tiers begin (input tokens, exclusive) at any time of the day."""
    prices = [answer.model_price]
    if isinstance(answer.model.prices, list):
        prices += [conditional.prices for conditional in answer.model.prices]
    return {
        tier.start
        for price in prices
        for rate in vars(price).values()
        if isinstance(rate, TieredPrices)
        for tier in rate.tiers
    }


def windows_of_day(answer: PriceCalculation) -> Iterator[TimeOfDateConstraint]:
    conditional = answer.model.prices if isinstance(answer.model.prices, list) else []
    for price in (*conditional, *(answer.model.price_variants or ())):
        if isinstance(price.constraint, TimeOfDateConstraint):
            yield price.constraint


def name_of(answer: PriceCalculation) -> str:
    return f"{answer.provider.id}/{answer.model.id}"


def _parts(answer: PriceCalculation, counts: Counts, *, has_tools: bool) -> Parts:
    """Return the parts of a price: whole, never negative, with the price rounded half-even as their sum."""
    rates = answer.model_price

    def cost(name: str, count: int, per: int) -> Decimal:
        return (_rate(getattr(rates, name), counts.input_tokens) or Decimal(0)) * count / per

    left = pico_from_usd(answer.total_price)
    with localcontext(EXACT):
        write_1h = counts.cache_write_1h_tokens if rates.cache_write_1h_mtok is not None and has_tools else 0
        wanted = (
            answer.output_price,
            cost("web_searches_kcount", counts.web_searches if has_tools else 0, 1000)
            + cost("requests_kcount", 1, 1000),
            cost("cache_read_mtok", counts.cache_read_tokens, 1_000_000)
            + cost("cache_write_mtok", counts.cache_write_tokens - write_1h, 1_000_000)
            + cost("cache_write_1h_mtok", write_1h, 1_000_000),
        )
    parts = []
    for usd in wanted:
        parts.append(min(pico_from_usd(usd), left))
        left -= parts[-1]
    output, tool, cache = parts
    return Parts(left, cache, output, tool)


def rates_per_mtok(
    prices: ModelPrice, input_tokens: int
) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    input_rate, output_rate, read_rate = (
        _rate(price, input_tokens)
        for price in (prices.input_mtok, prices.output_mtok, prices.cache_read_mtok)
    )
    return _rounded(input_rate), _rounded(output_rate), _rounded(read_rate)


def _rate(price: Decimal | TieredPrices | None, input_tokens: int) -> Decimal | None:
    if not isinstance(price, TieredPrices):
        return price
    reached = [tier.price for tier in price.tiers if input_tokens > tier.start]
    return reached[-1] if reached else price.base


def _rounded(rate: Decimal | None) -> Decimal | None:
    """Return the rate with the twelve places that a column has; a few in the catalogue have more."""
    return None if rate is None else rate.quantize(_PICO, context=EXACT)
