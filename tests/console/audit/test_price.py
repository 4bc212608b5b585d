"""Prices of the audit, against sums done by hand from the providers' price lists (USD per million tokens)."""

from decimal import Decimal
from typing import Any

import pytest
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.console.audit.price import Price, price_event
from tokentide.schemas import PriceStatus, UsageEvent
from tokentide.streams.prices import Catalogue, Counts, PriceContext

SONNET = "claude-sonnet-4-20250514"


def price(provider: str, model: str, counts: dict[str, int], at: str = "2025-11-03T12:05:30Z") -> Price:
    return price_event(UsageEvent.model_validate(_event(provider, model, at, counts), strict=False))


def _event(provider: str, model: str, at: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"event_id": "e", "timestamp": at, "provider": provider, "model": model, **fields}


@pytest.mark.parametrize(
    ("model", "counts", "pico_usd"),
    [
        # 1000 x 2.50 + 100 x 10.00
        ("openai/gpt-4o", {"input_tokens": 1000, "output_tokens": 100}, 3_500_000_000),
        ("openai/gpt-4o", {"input_tokens": 1}, 2_500_000),
        ("openai/gpt-4o", {"output_tokens": 1}, 10_000_000),
        ("openai/gpt-4o", {}, 0),
        # 600 x 2.50 + 400 x 1.25 + 100 x 10.00
        (
            "openai/gpt-4o",
            {"input_tokens": 1000, "cache_read_tokens": 400, "output_tokens": 100},
            3_000_000_000,
        ),
        # Reasoning is output like any other.
        (
            "openai/gpt-4o",
            {"input_tokens": 1000, "output_tokens": 100, "reasoning_tokens": 60},
            3_500_000_000,
        ),
        # Half a dollar-millionth: 0.075 for one cached token.
        ("openai/gpt-4o-mini", {"input_tokens": 1, "cache_read_tokens": 1}, 75_000),
        # 500 x 3.00 + 200 x 0.30 + 300 x 3.75 + 100 x 15.00
        (
            f"anthropic/{SONNET}",
            {"input_tokens": 1000, "cache_read_tokens": 200, "cache_write_tokens": 300, "output_tokens": 100},
            4_185_000_000,
        ),
        # 700 x 3.00 + 200 x 3.75 + 100 x 6.00 + 100 x 15.00
        (
            f"anthropic/{SONNET}",
            {
                "input_tokens": 1000,
                "cache_write_tokens": 300,
                "cache_write_1h_tokens": 100,
                "output_tokens": 100,
            },
            4_950_000_000,
        ),
        # 1000 x 3.00 + 100 x 15.00, and two searches at 10.00 a thousand
        (
            f"anthropic/{SONNET}",
            {"input_tokens": 1000, "output_tokens": 100, "web_searches": 2},
            24_500_000_000,
        ),
        # Up to 200,000 input tokens 1.25 and 10.00, above 2.50 and 15.00, for all of them.
        ("google/gemini-2.5-pro", {"input_tokens": 200_000, "output_tokens": 10}, 250_100_000_000),
        ("google/gemini-2.5-pro", {"input_tokens": 200_001, "output_tokens": 10}, 500_152_500_000),
    ],
)
def test_a_price_is_what_the_price_list_says(model: str, counts: dict[str, int], pico_usd: int) -> None:
    provider, _, name = model.partition("/")

    assert price(provider, name, counts) == (PriceStatus.PRICED, pico_usd)


@pytest.mark.parametrize(
    ("model", "at", "pico_usd"),
    [
        # o3 became cheaper on 10 June 2025: 10.00 and 40.00, then 2.00 and 8.00.
        ("openai/o3", "2025-06-09T23:59:59.999999Z", 14_000_000_000),
        ("openai/o3", "2025-06-10T00:00:00Z", 2_800_000_000),
        ("openai/o3", "2025-06-10T05:29:59+05:30", 14_000_000_000),
        # deepseek was at half price from 16:30 to 00:30 UTC: 0.27 and 1.10, or 0.135 and 0.55.
        ("deepseek/deepseek-chat", "2025-06-01T16:29:59.999Z", 380_000_000),
        ("deepseek/deepseek-chat", "2025-06-01T16:30:00Z", 190_000_000),
    ],
)
def test_the_time_of_the_call_decides(model: str, at: str, pico_usd: int) -> None:
    provider, _, name = model.partition("/")

    found = price(provider, name, {"input_tokens": 1000, "output_tokens": 100}, at)

    assert found == (PriceStatus.PRICED, pico_usd)


@pytest.mark.parametrize("model", ["openai/gpt-99", "acme/gpt-4o", "acme/x"])
def test_what_the_catalogue_does_not_know_is_unpriced(model: str) -> None:
    provider, _, name = model.partition("/")

    assert price(provider, name, {"input_tokens": 1000}) == (PriceStatus.UNPRICED, None)


def test_what_has_no_rate_is_unpriced_and_not_free() -> None:
    assert price("openai", "gpt-4o", {"images": 1}) == (PriceStatus.UNPRICED, None)


@pytest.mark.parametrize("provider", ["ollama", "lmstudio", "local", "LM Studio"])
def test_a_model_of_ones_own_is_free(provider: str) -> None:
    assert price(provider, "whatever", {"input_tokens": 1000}) == (PriceStatus.FREE, 0)


MODELS = [(provider.id, model.id) for provider in providers for model in provider.models]
MEASURES = {name: st.integers(0, 1000) for name in Counts._fields if name != "audio_seconds"}


@given(
    model=st.sampled_from(MODELS),
    at=st.sampled_from(["2024-05-01T03:00:00Z", "2025-11-03T12:05:30Z", "2026-07-01T17:00:00Z"]),
    tokens=st.tuples(st.integers(0, 300_000), st.integers(0, 5_000)),
    details=st.dictionaries(st.sampled_from(sorted(MEASURES)), st.integers(0, 300), max_size=3),
    seconds=st.sampled_from([0, 0, "0.5", "12.25"]),
    context=st.tuples(
        st.sampled_from(["standard", "batch"]),
        st.sampled_from([None, "auto", "flex", "priority"]),
        st.sampled_from([None, "fast"]),
    ),
)
@settings(max_examples=250, deadline=None)
def test_the_meter_prices_the_same(
    model: tuple[str, str],
    at: str,
    tokens: tuple[int, int],
    details: dict[str, int],
    seconds: int | str,
    context: tuple[str, str | None, str | None],
) -> None:
    processing, tier, speed = context
    fields = {
        **details,
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "audio_seconds": Decimal(seconds),
        "processing": processing,
        "service_tier": tier,
        "speed": speed,
    }
    try:
        event = UsageEvent.model_validate(_event(*model, at, fields), strict=False)
    except ValueError:
        return

    priced = Catalogue().price(
        event.provider,
        event.model,
        event.timestamp,
        PriceContext(processing, tier or "", speed or ""),
        Counts(**{name: getattr(event, name) for name in Counts._fields}),
    )

    assert price_event(event) == (priced.status, priced.total)
