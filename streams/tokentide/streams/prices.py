"""Prices of calls in whole pico-USD: own ones first, then genai-prices (MIT; dated history, tiers, variants).

`calc_price` takes about 200 µs. A price is linear in the counts within one (model, UTC day, context, tier,
set of reported counts), so each such plan is learned once through the public API, checked at another point,
and kept as integers. What is not linear in whole pico-USD goes through `calc_price` every time.
"""

from datetime import date, datetime
from decimal import Decimal, localcontext
from importlib.metadata import version
from typing import NamedTuple

from genai_prices.types import TimeOfDateConstraint

from tokentide.schemas import PriceStatus
from tokentide.schemas.provider import LOCAL_PROVIDERS
from tokentide.streams import genai
from tokentide.streams.genai import Call, Price, PriceContext
from tokentide.streams.overrides import Override, Overrides
from tokentide.streams.plan import Counts, Plan, is_coherent, learn_plan, shape_of

__all__ = ["CATALOGUE_VERSION", "Catalogue", "Counts", "Price", "PriceContext", "Rate"]

CATALOGUE_VERSION = version("genai-prices")

_MAX_SUBJECTS = 20_000
_NOTHING = (0, 0, 0, 0, 0, Decimal(0), Decimal(0), Decimal(0))
_LOCAL = Price(PriceStatus.FREE, "local", None, *_NOTHING)


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
        reported = {name for name in (*genai.RATES, "images") if getattr(counts, name)}
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
            return genai.direct(Call(provider, model, context), moment, counts)
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
            return genai.UNPRICED
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
            call = Call(provider, model, context)
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
        answer = Call(*key[:3]).ask(moment, Counts(1, 1), genai.ALWAYS)
        subject: _Subject | Price
        if answer is None:
            subject = genai.UNPRICED
        elif rated := genai.rated_counts(answer.model_price):
            subject = _Subject(
                rated, tuple(sorted(genai.tier_starts(answer))), tuple(genai.windows_of_day(answer)), {}
            )
        elif answer.model.id.endswith(":free"):
            subject = Price(PriceStatus.FREE, "genai-prices", genai.name_of(answer), *_NOTHING)
        else:
            # The catalogue lists the model without any rate: nobody knows, or a subscription pays.
            subject = genai.UNPRICED
        self._subjects[key] = subject
        return subject


def _own(override: Override, counts: Counts, requests: int) -> Price:
    parts = override.parts(counts, requests)
    return Price(PriceStatus.PRICED, "override", override.model, sum(parts), *parts, *override.per_mtok)


def _learn_rate(call: Call, moment: datetime, tiers: tuple[int, ...], tier: int, shape: int) -> Rate | None:
    low = tiers[tier - 1] if tier else 0
    high = tiers[tier] if tier < len(tiers) else None

    def exact(counts: Counts) -> Decimal | None:
        answer = call.ask(moment, counts, genai.PRICEABLE)
        return None if answer is None else answer.total_price

    with localcontext(genai.EXACT):
        plan = learn_plan(exact, low, high, shape)
        answer = call.ask(moment, Counts(low + 1), genai.ALWAYS)
    if plan is None or answer is None:
        return None
    return Rate(plan, genai.name_of(answer), genai.rates_per_mtok(answer.model_price, low + 1))
