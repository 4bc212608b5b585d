"""Prices by columns are those that the catalogue gives call by call."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.schemas import usd_from_pico
from tokentide.schemas.chunk import Record
from tokentide.schemas.columns import PRICED_SCHEMA
from tokentide.schemas.usage import CONTAINED
from tokentide.schemas.usage_struct import FIELDS
from tokentide.streams.column_prices import price_columns
from tokentide.streams.event_columns import EventColumns
from tokentide.streams.overrides import Overrides
from tokentide.streams.prices import Catalogue, Counts, PriceContext

MIDNIGHT = datetime(2025, 6, 10, tzinfo=UTC)
LARGEST = 10**9


def overridden() -> Catalogue:
    """A catalogue with own prices: one of a model it knows, from noon on, one of a model at home, and a dear one."""
    overrides = Overrides()
    own = (
        ("openai", "gpt-4o-mini", "0.000001", "0.000000000007"),
        ("ollama", "llama3", "3", "0"),
        ("acme", "dear", "1000000", "1000000"),
    )
    for offset, (provider, model, per_mtok, per_request) in enumerate(own):
        value = {
            "provider": provider,
            "model": model,
            "valid_from": (MIDNIGHT + timedelta(hours=12)).isoformat(),
            "input_usd_per_mtok": per_mtok,
            "output_usd_per_mtok": "8",
            "usd_per_request": per_request,
        }
        overrides.apply(Record(offset, 0, None, json.dumps(value).encode()))
    assert overrides.find("acme", "dear", MIDNIGHT + timedelta(hours=12)) is not None
    return Catalogue(overrides)


CATALOGUES = {"plain": Catalogue(), "overridden": overridden()}


def event(
    provider: str = "openai", model: str = "gpt-4o", at: datetime = MIDNIGHT, **changes: Any
) -> dict[str, Any]:
    counts = {**Counts()._asdict(), "audio_seconds": Decimal(0)}
    plain = {"provider": provider, "model": model, "processing": "standard", "requests": 1, "timestamp": at}
    return {**dict.fromkeys(FIELDS), **counts, **plain, **changes}


def columns_of(events: Sequence[dict[str, Any]]) -> EventColumns:
    moments = pa.array([event["timestamp"] for event in events], pa.timestamp("us", tz="UTC"))
    values = {name: tuple(event[name] for event in events) for name in FIELDS}
    return EventColumns(values, moments.cast(pa.int64()).to_numpy())


def one_by_one(events: Sequence[dict[str, Any]], catalogue: Catalogue) -> dict[str, list[Any]]:
    prices = [
        catalogue.price(
            event["provider"],
            event["model"],
            event["timestamp"],
            PriceContext(event["processing"], event["service_tier"] or "", event["speed"] or ""),
            Counts(*(event[name] for name in Counts._fields)),
            event["requests"],
        )
        for event in events
    ]

    def usd(picos: Sequence[int | None]) -> list[Decimal | None]:
        return [None if pico is None else usd_from_pico(pico) for pico in picos]

    return {
        "price_status": [price.status.value for price in prices],
        "price_source": [price.source for price in prices],
        "priced_model": [price.model for price in prices],
        "input_price_per_mtok": [price.input_per_mtok for price in prices],
        "output_price_per_mtok": [price.output_per_mtok for price in prices],
        "cached_price_per_mtok": [price.cached_per_mtok for price in prices],
        "list_cost_usd": usd([price.total for price in prices]),
        "cost_usd": usd([price.total for price in prices]),
        "input_cost_usd": usd([price.input for price in prices]),
        "cache_cost_usd": usd([price.cache for price in prices]),
        "output_cost_usd": usd([price.output for price in prices]),
        "tool_cost_usd": usd([price.tool for price in prices]),
    }


def assert_same(events: Sequence[dict[str, Any]], catalogue: Catalogue) -> None:
    columns = price_columns(columns_of(events), catalogue)

    assert {name: column.to_pylist() for name, column in columns.items()} == one_by_one(events, catalogue)
    for name, column in columns.items():
        assert column.type == PRICED_SCHEMA.field(name).type
        column.validate(full=True)


SELLERS = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("openai", "o3"),  # another price from MIDNIGHT on
    ("openai", "gpt-realtime"),
    ("openai", "gpt-image-1"),
    ("openai", "tts-1"),
    ("openai", "whisper-1"),
    ("anthropic", "claude-sonnet-4-5"),  # tiers
    ("google", "gemini-2.5-pro"),  # tiers
    ("deepseek", "deepseek-chat"),  # times of the day
    ("perplexity", "sonar"),  # a price of the call itself
    ("mistral", "mistral-ocr-2505"),
    ("openrouter", "deepseek/deepseek-r1:free"),
    ("ollama", "llama3"),
    ("acme", "dear"),
    ("openai", "gpt-that-nobody-knows"),
    ("github-copilot", "gpt-4o"),
]
MOMENTS = st.sampled_from(
    [
        MIDNIGHT + timedelta(**moved)
        for moved in (
            {"microseconds": -1},
            {},
            {"microseconds": 1},
            {"hours": 12, "microseconds": -1},
            {"hours": 12},
            {"hours": 17},
            {"days": 1},
            {"days": -400},
        )
    ]
)
AMOUNTS = (
    st.integers(0, 5000)
    | st.sampled_from([1, 128_000, 200_000, 200_001, 272_001, LARGEST])
    | st.integers(0, LARGEST)
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Events as UsageEvent accepts them; the catalogue refuses some of them."""
    counts: dict[str, Any] = {"input_tokens": draw(AMOUNTS), "output_tokens": draw(AMOUNTS)}
    names = [name for name in Counts._fields[2:-1] if draw(st.integers(0, 5)) == 0]
    for name in names:
        limits = [larger for smaller, larger in CONTAINED if name in smaller]
        counts[name] = min([draw(AMOUNTS), *(counts.get(larger, 0) for larger in limits)])
    for smaller, larger in CONTAINED:
        while sum(counts.get(name, 0) for name in smaller) > counts.get(larger, 0):
            counts = {**counts, **{name: counts.get(name, 0) // 2 for name in smaller}}
    seconds = draw(st.sampled_from([Decimal(0)] * 6 + [Decimal("0.000"), Decimal("61.5"), Decimal(LARGEST)]))
    return event(
        *draw(st.sampled_from(SELLERS)),
        draw(MOMENTS),
        processing=draw(st.sampled_from(["standard", "standard", "batch"])),
        service_tier=draw(st.sampled_from([None, None, "", "auto", "flex", "priority"])),
        speed=draw(st.sampled_from([None, None, "", "fast"])),
        requests=draw(st.sampled_from([1, 2, 10**6])),
        audio_seconds=seconds,
        **counts,
    )


@pytest.mark.parametrize("catalogue", CATALOGUES.values(), ids=CATALOGUES)
@given(many=st.lists(events(), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_columns_say_what_the_catalogue_says_call_by_call(
    catalogue: Catalogue, many: list[dict[str, Any]]
) -> None:
    assert_same(many, catalogue)


@given(
    seller=st.sampled_from(SELLERS[:11]),
    tokens=st.lists(st.tuples(AMOUNTS, AMOUNTS, st.integers(0, 200)), min_size=2, max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_many_calls_of_one_model_cost_what_each_costs(
    seller: tuple[str, str], tokens: list[tuple[int, int, int]]
) -> None:
    calls = [
        event(
            *seller, input_tokens=tokens_in, output_tokens=tokens_out, cache_read_tokens=min(read, tokens_in)
        )
        for tokens_in, tokens_out, read in tokens
    ]

    assert_same(calls, CATALOGUES["plain"])


@pytest.mark.parametrize("searches", [4 * 10**7, 10**8, 922_337_203, 922_337_204, LARGEST])
def test_costs_around_64_bits_are_exact(searches: int) -> None:
    calls = [
        event(web_searches=searches, input_tokens=LARGEST, output_tokens=LARGEST),
        event(input_tokens=1),
        event(model="gpt-that-nobody-knows", input_tokens=1),
    ]

    assert_same(calls, CATALOGUES["plain"])


def test_many_kinds_of_calls_get_groups_of_their_own() -> None:
    calls = [
        event(
            model=f"nobody-knows-{number % 700}", service_tier=f"tier-{number}", speed=f"speed-{number % 900}"
        )
        for number in range(1000)
    ]
    known = [event(service_tier=f"tier-{number}", input_tokens=number) for number in range(30)]

    assert_same([*calls, *known], CATALOGUES["plain"])
