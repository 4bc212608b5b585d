"""Prices of calls in whole pico-USD, from genai-prices (MIT; dated history, tiers, processing variants).

`calc_price` takes about 200 µs. A price is linear in the counts within one (model, UTC day, context, tier,
set of reported counts), so each such plan is probed once through the public API, checked at another point,
and kept as integers. What is not linear, or changes within a day, goes through `calc_price` every time.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any, NamedTuple

from genai_prices import Usage, calc_price
from genai_prices.types import ModelPrice, PriceCalculation, TieredPrices, TimeOfDateConstraint

from tokentide.schemas import PriceStatus, pico_from_usd

__all__ = ["Catalogue", "Counts", "Price", "PriceContext"]

LOCAL_PROVIDERS = frozenset({"ollama", "lmstudio", "local"})
CATALOGUE_VERSION = version("genai-prices")

# Counts whose price is linear, in the order of Counts; the rest always goes through calc_price.
_LINEAR = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_reasoning_tokens",
    "web_searches",
)
_MAX_PLANS = 50_000
_UNKNOWN = (-1,)


class Counts(NamedTuple):
    """The counts of one call that can cost something; `other` holds the rare ones, by catalogue name."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    web_searches: int
    other: Mapping[str, int | Decimal]


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
    """The price of one call; amounts in whole pico-USD, None when unknown."""

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


_UNPRICED = Price(PriceStatus.UNPRICED, *(None,) * 10)
_FREE = Price(PriceStatus.FREE, "local", None, 0, 0, 0, 0, 0, Decimal(0), Decimal(0), Decimal(0))


class _Plan(NamedTuple):
    """Coefficients of one plan: pico-USD a unit, in the order of _LINEAR, and pico-USD a call."""

    coefficients: tuple[int, ...]
    per_call: int
    model: str
    per_mtok: tuple[Decimal | None, Decimal | None, Decimal | None]


class Catalogue:
    """Prices calls; a pure function of its arguments and the installed catalogue, memory of plans apart."""

    def __init__(self) -> None:
        self._plans: dict[tuple[Any, ...], _Plan | None] = {}
        self._tiers: dict[tuple[Any, ...], tuple[int, ...] | None] = {}

    def price(
        self, provider: str, model: str, moment: datetime, context: PriceContext, counts: Counts
    ) -> Price:
        """Return the price of one call made at `moment` (aware, UTC)."""
        if provider in LOCAL_PROVIDERS:
            return _FREE
        day = moment.date()
        if counts.other:
            return _direct(provider, model, moment, context, counts)
        subject = (provider, model, day, context)
        try:
            tiers = self._tiers[subject]
        except KeyError:
            tiers = self._learn_tiers(subject)
        if tiers is None:
            return _direct(provider, model, moment, context, counts)
        if tiers is _UNKNOWN:
            return _UNPRICED
        tier = sum(counts.input_tokens > start for start in tiers) if tiers else 0
        shape = (
            (counts.cache_read_tokens > 0)
            | (counts.cache_write_tokens > 0) << 1
            | (counts.cache_write_1h_tokens > 0) << 2
            | (counts.reasoning_tokens > 0) << 3
            | (counts.web_searches > 0) << 4
        )
        key = (*subject, tier, shape)
        try:
            plan = self._plans[key]
        except KeyError:
            plan = self._plans[key] = _probe(provider, model, day, context, tiers, tier, shape)
        return _apply(plan, counts) if plan else _direct(provider, model, moment, context, counts)

    def _learn_tiers(self, subject: tuple[str, str, date, PriceContext]) -> tuple[int, ...] | None:
        """Return where price tiers begin (input tokens, exclusive); None when a day has several prices."""
        if len(self._tiers) > _MAX_PLANS:
            self._tiers.clear()
            self._plans.clear()
        provider, model, day, context = subject
        answer = _calculate(provider, model, _noon(day), context, {"input_tokens": 1, "output_tokens": 1})
        tiers: tuple[int, ...] | None
        if answer is None:
            tiers = _UNKNOWN
        elif _changes_within_a_day(answer):
            tiers = None
        else:
            starts = {
                tier.start
                for price in vars(answer.model_price).values()
                if isinstance(price, TieredPrices)
                for tier in price.tiers
            }
            tiers = tuple(sorted(starts))
        self._tiers[subject] = tiers
        return tiers


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def _changes_within_a_day(answer: PriceCalculation) -> bool:
    prices = answer.model.prices
    return not isinstance(prices, ModelPrice) and any(
        isinstance(price.constraint, TimeOfDateConstraint) for price in prices
    )


def _calculate(
    provider: str, model: str, moment: datetime, context: PriceContext, usage: Mapping[str, int | Decimal]
) -> PriceCalculation | None:
    """Return the catalogue's answer, or None when it does not know the model or refuses the counts."""
    try:
        return calc_price(
            Usage(**usage),
            model,
            provider_id=provider,
            genai_request_timestamp=moment,
            price_context=context.for_catalogue() or None,
        )
    except (LookupError, ValueError):
        return None


def _usage(counts: Counts) -> dict[str, int | Decimal]:
    """Return the counts as genai-prices names them: input and output always, others when there are any."""
    usage = dict(zip(_LINEAR, counts[:7], strict=True))
    reported = {
        name: value for name, value in usage.items() if value or name in ("input_tokens", "output_tokens")
    }
    return {**reported, **counts.other}


def _direct(provider: str, model: str, moment: datetime, context: PriceContext, counts: Counts) -> Price:
    status = PriceStatus.PRICED
    answer = _calculate(provider, model, moment, context, _usage(counts))
    if answer is None:
        status = PriceStatus.APPROXIMATE
        plain = counts._replace(cache_write_1h_tokens=0, reasoning_tokens=0, web_searches=0, other={})
        answer = _calculate(provider, model, moment, context, _usage(plain))
    if answer is None:
        return _UNPRICED
    total, output = pico_from_usd(answer.total_price), pico_from_usd(answer.output_price)
    paid_input = pico_from_usd(answer.input_price)
    return Price(
        status,
        "genai-prices",
        f"{answer.provider.id}/{answer.model.id}",
        total,
        total - output - max(total - output - paid_input, 0),
        0,
        output,
        max(total - output - paid_input, 0),
        *_per_mtok(answer, counts.input_tokens),
    )


def _per_mtok(
    answer: PriceCalculation, input_tokens: int
) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
    def unit(price: Decimal | TieredPrices | None) -> Decimal | None:
        if not isinstance(price, TieredPrices):
            return price
        reached = [tier.price for tier in price.tiers if input_tokens > tier.start]
        return reached[-1] if reached else price.base

    prices = answer.model_price
    return unit(prices.input_mtok), unit(prices.output_mtok), unit(prices.cache_read_mtok)


def _probe(
    provider: str,
    model: str,
    day: date,
    context: PriceContext,
    tiers: tuple[int, ...],
    tier: int,
    shape: int,
) -> _Plan | None:
    """Return the coefficients of a plan, or None when its price is not linear in whole pico-USD."""
    moment = _noon(day)
    low = tiers[tier - 1] if tier else 0
    # A point inside the tier, with every reported count above zero and none larger than what contains it.
    base = [low + 1000, 100, 0, 0, 0, 0, 0]
    for bit, place, amount in ((0, 2, 100), (1, 3, 100), (2, 4, 50), (3, 5, 50), (4, 6, 10)):
        if shape >> bit & 1:
            base[place] = amount

    def exact(point: list[int]) -> Decimal | None:
        answer = _calculate(provider, model, moment, context, _usage(_counts(point)))
        return None if answer is None else answer.total_price

    start = exact(base)
    answer = _calculate(provider, model, moment, context, _usage(_counts(base)))
    if start is None or answer is None:
        return None
    coefficients = []
    for place, amount in enumerate(base):
        if not amount:
            coefficients.append(0)
            continue
        moved = exact([count + (index == place) for index, count in enumerate(base)])
        if moved is None:
            return None
        coefficient = (moved - start).scaleb(12)
        if coefficient != int(coefficient):
            return None
        coefficients.append(int(coefficient))
    per_call = start.scaleb(12) - sum(map(int.__mul__, coefficients, base))
    if per_call != int(per_call):
        return None
    elsewhere = [count * 2 + 7 * (index < 2) if count else 0 for index, count in enumerate(base)]
    elsewhere[0] = min(base[0] + 777, tiers[tier] if tier < len(tiers) else base[0] + 777)
    check = exact(elsewhere)
    if check is None or check.scaleb(12) != per_call + sum(map(int.__mul__, coefficients, elsewhere)):
        return None
    return _Plan(
        tuple(coefficients),
        int(per_call),
        f"{answer.provider.id}/{answer.model.id}",
        _per_mtok(answer, low + 1000),
    )


def _counts(point: list[int]) -> Counts:
    a, b, c, d, e, f, g = point
    return Counts(a, b, c, d, e, f, g, {})


def _apply(plan: _Plan, counts: Counts) -> Price:
    per_input, per_output, per_read, per_write, per_write_1h, per_reasoning, per_search = plan.coefficients
    output = counts.output_tokens * per_output + counts.reasoning_tokens * per_reasoning
    tool = counts.web_searches * per_search + plan.per_call
    read, write = counts.cache_read_tokens, counts.cache_write_tokens
    cache = (
        read * (per_input + per_read)
        + write * (per_input + per_write)
        + counts.cache_write_1h_tokens * per_write_1h
    )
    uncached = (counts.input_tokens - read - write) * per_input
    return Price(
        PriceStatus.PRICED,
        "genai-prices",
        plan.model,
        uncached + cache + output + tool,
        uncached,
        cache,
        output,
        tool,
        *plan.per_mtok,
    )
