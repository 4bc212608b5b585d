"""Prices of calls in whole pico-USD: own ones first, then genai-prices (MIT; dated history, tiers, variants).

`calc_price` takes about 200 µs. A price is linear in the counts within one (model, UTC day, context, tier,
set of reported counts), so each such plan is learned once through the public API, checked at another point,
and kept as integers. What is not linear in whole pico-USD goes through `calc_price` every time.
"""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Context, Decimal, localcontext
from importlib.metadata import version
from typing import NamedTuple

from genai_prices import Usage, calc_price
from genai_prices.types import ModelPrice, PriceCalculation, TieredPrices, TimeOfDateConstraint

from tokentide.schemas import PriceStatus, pico_from_usd
from tokentide.schemas.provider import LOCAL_PROVIDERS
from tokentide.streams.overrides import Override, Overrides
from tokentide.streams.plan import Counts, Parts, Plan, is_coherent, learn_plan, shape_of

__all__ = ["CATALOGUE_VERSION", "Catalogue", "Counts", "Price", "PriceContext", "Rate"]

CATALOGUE_VERSION = version("genai-prices")

_MAX_SUBJECTS = 20_000
# Whoever calls: prices do not depend on the caller's decimal context.
_EXACT = Context(prec=60)
_PICO = Decimal(1).scaleb(-12)
_RENAMED = {"reasoning_tokens": "output_reasoning_tokens", "pages": "input_document_pages"}
_ALWAYS = ("input_tokens", "output_tokens")
_PLAIN = (*_ALWAYS, "cache_read_tokens", "cache_write_tokens")
# The rate that a count needs to cost anything; the other counts are parts of input and output.
_RATES = {
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


_UNPRICED = Price(PriceStatus.UNPRICED, *(None,) * 10)
_NOTHING = (0, 0, 0, 0, 0, Decimal(0), Decimal(0), Decimal(0))
_LOCAL = Price(PriceStatus.FREE, "local", None, *_NOTHING)


class _Call(NamedTuple):
    """What identifies a price, apart from counts."""

    provider: str
    model: str
    context: PriceContext

    def ask(self, moment: datetime, counts: Counts, names: tuple[str, ...]) -> PriceCalculation | None:
        """Return the catalogue's answer, or None when it does not know the model or refuses the counts."""
        usage = {
            _RENAMED.get(name, name): count
            for name, count in zip(Counts._fields, counts, strict=True)
            if name in names and (count or name in _ALWAYS)
        }
        try:
            with localcontext(_EXACT):
                return calc_price(
                    Usage(**usage),
                    self.model,
                    provider_id=self.provider,
                    genai_request_timestamp=moment,
                    price_context=self.context.for_catalogue() or None,
                )
        except (LookupError, ValueError):
            return None


_PRICEABLE = tuple(name for name in Counts._fields if name != "images")


_Key = tuple[str, str, PriceContext, date]


class Rate(NamedTuple):
    """A plan with what every price made by it says."""

    plan: Plan
    model: str
    per_mtok: tuple[Decimal | None, Decimal | None, Decimal | None]

    def price(self, counts: Counts) -> Price:
        """Return the price of a call with these counts."""
        parts = self.plan.parts(counts)
        return Price(PriceStatus.PRICED, "genai-prices", self.model, sum(parts), *parts, *self.per_mtok)


class _Subject(NamedTuple):
    """What is known of one model on one day: where tiers begin, windows of the day, rates by tier and shape."""

    rated: frozenset[str]
    tiers: tuple[int, ...]
    windows: tuple[TimeOfDateConstraint, ...]
    rates: dict[object, Rate | None]

    def covers(self, counts: Counts) -> bool:
        """Whether the catalogue has a rate for anything that the call reports, or the call reports nothing."""
        if counts.input_tokens and "input_tokens" in self.rated:
            return True
        reported = {name for name in (*_RATES, "images") if getattr(counts, name)}
        return not reported or "requests" in self.rated or not reported.isdisjoint(self.rated)


class Catalogue:
    """Prices calls; a pure function of its arguments, the overrides and the catalogue, memory of plans apart."""

    def __init__(self, overrides: Overrides | None = None) -> None:
        """`overrides` may grow meanwhile; none when it is None."""
        self._overrides = Overrides() if overrides is None else overrides
        self._subjects: dict[_Key, _Subject | Price] = {}

    @property
    def version(self) -> str:
        """What prices rest on now: the version of genai-prices, and the known part of `usage.prices`."""
        known = self._overrides.version
        return f"genai-prices/{CATALOGUE_VERSION}" + (f"+prices@{known}" if known else "")

    def price(
        self,
        provider: str,
        model: str,
        moment: datetime,
        context: PriceContext,
        counts: Counts,
        requests: int = 1,
    ) -> Price:
        """Return the price of one event, made at `moment` (aware, UTC).

        `provider` is a canonical name. An override holds for any model, also on one's own machine. Without one a
        call is unpriced when the catalogue does not know its model, or has no rate for anything that the call
        reports. `requests` count for an override only: the catalogue charges a price of the call once an event.
        """
        override = self._overrides.find(provider, model, moment)
        if override is not None:
            return _own(override, counts, requests)
        rule = self.rule(provider, model, moment, context, counts)
        if rule is None:
            return _direct(_Call(provider, model, context), moment, counts)
        return rule if isinstance(rule, Price) else rule.price(counts)

    def tiers(
        self, provider: str, model: str, moment: datetime, context: PriceContext
    ) -> tuple[int, ...] | None:
        """Return above which input tokens another rate begins on this UTC day.

        None when more than that, and more than `rule` says, decides: the time of the day, or an override.
        """
        if self._overrides.knows(provider, model):
            return None
        subject = self._subject(provider, model, moment, context)
        if isinstance(subject, Price):
            return ()
        return None if subject.windows else subject.tiers

    def rule(
        self, provider: str, model: str, moment: datetime, context: PriceContext, counts: Counts
    ) -> Price | Rate | None:
        """Return what prices the call when no override does; None when the catalogue must be asked for it alone.

        The same holds for all calls of the model in this context on this UTC day, when the same counts are above
        zero, the input lies between the same `tiers`, and the counts are all coherent or all are not.
        """
        subject = self._subject(provider, model, moment, context)
        if isinstance(subject, Price):
            return subject
        if not subject.covers(counts):
            return _UNPRICED
        shape = shape_of(counts)
        if shape and (counts.audio_seconds or not is_coherent(counts)):
            return None
        tier = sum(counts.input_tokens > start for start in subject.tiers) if subject.tiers else 0
        place: object = shape << 8 | tier
        if subject.windows:
            place = (place, *(window.active(moment) for window in subject.windows))
        try:
            return subject.rates[place]
        except KeyError:
            call = _Call(provider, model, context)
            rate = subject.rates[place] = _learn_rate(call, moment, subject.tiers, tier, shape)
            return rate

    def _subject(
        self, provider: str, model: str, moment: datetime, context: PriceContext
    ) -> _Subject | Price:
        if provider in LOCAL_PROVIDERS:
            return _LOCAL
        key = (provider, model, context, moment.date())
        return self._subjects.get(key) or self._learn(key, moment)

    def _learn(self, key: _Key, moment: datetime) -> _Subject | Price:
        if len(self._subjects) > _MAX_SUBJECTS:
            self._subjects.clear()
        answer = _Call(*key[:3]).ask(moment, Counts(1, 1), _ALWAYS)
        subject: _Subject | Price
        if answer is None:
            subject = _UNPRICED
        elif rated := _rated(answer.model_price):
            subject = _Subject(rated, tuple(sorted(_tier_starts(answer))), tuple(_windows(answer)), {})
        elif answer.model.id.endswith(":free"):
            subject = Price(PriceStatus.FREE, "genai-prices", _name(answer), *_NOTHING)
        else:
            # The catalogue lists the model without any rate: nobody knows, or a subscription pays.
            subject = _UNPRICED
        self._subjects[key] = subject
        return subject


def _own(override: Override, counts: Counts, requests: int) -> Price:
    parts = override.parts(counts, requests)
    return Price(PriceStatus.PRICED, "override", override.model, sum(parts), *parts, *override.per_mtok)


def _rated(price: ModelPrice) -> frozenset[str]:
    """Return the counts that have a rate, "requests" for a price of the call itself."""
    rates = {**_RATES, "requests": "requests_kcount"}
    return frozenset(name for name, rate in rates.items() if getattr(price, rate) is not None)


def _tier_starts(answer: PriceCalculation) -> set[int]:
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


def _windows(answer: PriceCalculation) -> Iterator[TimeOfDateConstraint]:
    conditional = answer.model.prices if isinstance(answer.model.prices, list) else []
    for price in (*conditional, *(answer.model.price_variants or ())):
        if isinstance(price.constraint, TimeOfDateConstraint):
            yield price.constraint


def _name(answer: PriceCalculation) -> str:
    return f"{answer.provider.id}/{answer.model.id}"


def _learn_rate(call: _Call, moment: datetime, tiers: tuple[int, ...], tier: int, shape: int) -> Rate | None:
    low = tiers[tier - 1] if tier else 0
    high = tiers[tier] if tier < len(tiers) else None

    def exact(counts: Counts) -> Decimal | None:
        answer = call.ask(moment, counts, _PRICEABLE)
        return None if answer is None else answer.total_price

    with localcontext(_EXACT):
        plan = learn_plan(exact, low, high, shape)
        answer = call.ask(moment, Counts(low + 1), _ALWAYS)
    if plan is None or answer is None:
        return None
    return Rate(plan, _name(answer), _per_mtok(answer.model_price, low + 1))


def _direct(call: _Call, moment: datetime, counts: Counts) -> Price:
    """Return the price that `calc_price` gives; without the details of the counts when it refuses them."""
    status = PriceStatus.PRICED
    answer = call.ask(moment, counts, _PRICEABLE)
    if answer is None:
        status = PriceStatus.APPROXIMATE
        answer = call.ask(moment, counts, _PLAIN)
    if answer is None:
        return _UNPRICED
    parts = _parts(answer, counts, has_tools=status is PriceStatus.PRICED)
    per_mtok = _per_mtok(answer.model_price, counts.input_tokens)
    return Price(status, "genai-prices", _name(answer), sum(parts), *parts, *per_mtok)


def _parts(answer: PriceCalculation, counts: Counts, *, has_tools: bool) -> Parts:
    """Return the parts of a price: whole, never negative, with the price rounded half-even as their sum."""
    rates = answer.model_price

    def cost(name: str, count: int, per: int) -> Decimal:
        return (_rate(getattr(rates, name), counts.input_tokens) or Decimal(0)) * count / per

    left = pico_from_usd(answer.total_price)
    with localcontext(_EXACT):
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


def _per_mtok(prices: ModelPrice, input_tokens: int) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
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
    return None if rate is None else rate.quantize(_PICO, context=_EXACT)
