"""What an event cost, by an override or genai-prices itself: slow, obvious, and no line shared with the meter."""

from datetime import datetime
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from typing import NamedTuple

from genai_prices import Usage, calc_price

from tokentide.schemas import PriceOverride, PriceStatus, UsageEvent, pico_from_usd

__all__ = ["FREE_PROVIDERS", "Price", "price_event"]

FREE_PROVIDERS = frozenset({"ollama", "lmstudio", "local"})

# What the catalogue can price, by its name and by ours. It has no unit for our images, and it charges a price
# per request once a call by itself.
_ALWAYS = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}
_CACHE = {"cache_read_tokens": "cache_read_tokens", "cache_write_tokens": "cache_write_tokens"}
_DETAILS = {
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "output_reasoning_tokens": "reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "cache_audio_read_tokens": "cache_audio_read_tokens",
    "input_image_tokens": "input_image_tokens",
    "output_image_tokens": "output_image_tokens",
    "audio_seconds": "audio_seconds",
    "input_characters": "input_characters",
    "input_document_pages": "pages",
    "web_searches": "web_searches",
}
_NAMES = {**_ALWAYS, **_CACHE, **_DETAILS}
_PLAIN = {**_ALWAYS, **_CACHE}
# The rate without which a count costs nothing; all other counts are parts of input and output tokens.
_RATES = {
    "input_tokens": "input_mtok",
    "output_tokens": "output_mtok",
    "web_searches": "web_searches_kcount",
    "input_characters": "input_mchars",
    "input_document_pages": "input_document_kpages",
    "audio_seconds": "audio_hours",
}
_EXACT = Context(prec=60)


class Price(NamedTuple):
    """What is known about the price of one event; the cost is None exactly when it is unpriced."""

    status: PriceStatus
    cost_pico_usd: int | None


def price_event(event: UsageEvent, override: PriceOverride | None = None) -> Price:
    """Return the event's price at event time, rounded half-even to a whole pico-USD; an override is all that counts.

    Counts that the catalogue refuses are priced again without their details (approximate). Unpriced is a model
    that it does not know, or lists without a rate for anything that the event reports.
    """
    if override is not None:
        return Price(PriceStatus.PRICED, _own_price(event, override))
    if event.provider in FREE_PROVIDERS:
        return Price(PriceStatus.FREE, 0)
    context = []
    if event.processing == "batch":
        context.append(("processing", "batch"))
    if event.service_tier and event.service_tier not in ("auto", "default"):
        context.append(("service_tier", event.service_tier))
    if event.speed:
        context.append(("speed", event.speed))
    counts = ((name, getattr(event, ours)) for name, ours in _NAMES.items())
    return _price(
        event.provider,
        event.model,
        event.timestamp.replace(second=0, microsecond=0),
        tuple(context),
        tuple((name, count) for name, count in counts if count or name in _ALWAYS),
        event.images > 0,
    )


def _own_price(event: UsageEvent, override: PriceOverride) -> int:
    """Return what an override makes of tokens and requests; it is whole pico-USD, so nothing is rounded."""
    per_input = override.input_usd_per_mtok
    per_read, per_write = (
        per_input if price is None else price
        for price in (override.cache_read_usd_per_mtok, override.cache_write_usd_per_mtok)
    )
    plain = event.input_tokens - event.cache_read_tokens - event.cache_write_tokens
    with localcontext(_EXACT):
        millions = (
            plain * per_input
            + event.cache_read_tokens * per_read
            + event.cache_write_tokens * per_write
            + event.output_tokens * override.output_usd_per_mtok
        )
        return pico_from_usd(millions / 1_000_000 + event.requests * override.usd_per_request)


@lru_cache(maxsize=1 << 14)
def _price(
    provider: str,
    model: str,
    minute: datetime,
    context: tuple[tuple[str, str], ...],
    counts: tuple[tuple[str, int | Decimal], ...],
    has_images: bool,
) -> Price:
    """Return the price; prices begin and end on whole minutes, so the minute stands for its seconds."""
    plain = tuple((name, count) for name, count in counts if name in _PLAIN)
    for status, usage in ((PriceStatus.PRICED, counts), (PriceStatus.APPROXIMATE, plain)):
        try:
            with localcontext(_EXACT):
                answer = calc_price(
                    Usage(**dict(usage)),
                    model_ref=model,
                    provider_id=provider,
                    genai_request_timestamp=minute,
                    price_context=dict(context) or None,
                )
        except LookupError:
            break
        except ValueError:
            continue
        rated = {name for name, rate in _RATES.items() if getattr(answer.model_price, rate) is not None}
        if answer.model_price.requests_kcount is not None:
            return Price(status, pico_from_usd(answer.total_price))
        if not rated and answer.model.id.endswith(":free"):
            return Price(PriceStatus.FREE, 0)
        reported = {name for name, count in counts if count and name in _RATES}
        is_silent = not reported and not has_images
        if reported & rated or (rated and is_silent):
            return Price(status, pico_from_usd(answer.total_price))
        break
    return Price(PriceStatus.UNPRICED, None)
