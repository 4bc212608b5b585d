"""Own prices: which one holds, what it makes of a call, and what a row says of it."""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.schemas import PriceStatus, pico_from_usd
from tokentide.schemas.chunk import Chunk, Record
from tokentide.streams.overrides import Overrides
from tokentide.streams.prices import CATALOGUE_VERSION, Catalogue, Counts, Price, PriceContext
from tokentide.streams.pricing import price_chunk
from tokentide.streams.seen import SeenIds

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOON_MS = 1_793_534_400_000
PLAIN = PriceContext("standard", "", "")


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "provider": "openai",
        "model": "gpt-4o",
        "valid_from": NOON.isoformat(),
        "input_usd_per_mtok": "2",
        "output_usd_per_mtok": "8",
        **changes,
    }


def known(*records: dict[str, Any] | bytes | None) -> Overrides:
    overrides = Overrides()
    for offset, value in enumerate(records):
        content = json.dumps(value).encode() if isinstance(value, dict) else value
        overrides.apply(Record(offset, NOON_MS, b"key", content))
    return overrides


def price(overrides: Overrides, at: datetime = NOON, requests: int = 1, **counts: int) -> Price:
    return Catalogue(overrides).price("openai", "gpt-4o", at, PLAIN, Counts(**counts), requests)


def test_an_override_holds_from_its_moment_on_and_the_catalogue_before() -> None:
    overrides = known(fields())

    before = price(overrides, NOON - timedelta(microseconds=1), input_tokens=1000)
    after = price(overrides, NOON, input_tokens=1000)

    assert (before.source, before.total) == ("genai-prices", 2_500_000_000)
    assert (after.source, after.total, after.model) == ("override", 2_000_000_000, "openai/gpt-4o")


def test_every_part_has_its_price_and_the_parts_add_up() -> None:
    overrides = known(
        fields(
            cache_read_usd_per_mtok="0.000001",
            cache_write_usd_per_mtok="3",
            usd_per_request="0.000000000007",
        )
    )

    got = price(
        overrides,
        requests=3,
        input_tokens=100,
        output_tokens=10,
        cache_read_tokens=30,
        cache_write_tokens=20,
        cache_write_1h_tokens=5,
        reasoning_tokens=9,
    )

    assert (got.input, got.cache, got.output, got.tool) == (
        50 * 2_000_000,
        30 + 20 * 3_000_000,
        80_000_000,
        21,
    )
    assert got.total == 100_000_000 + 60_000_030 + 80_000_000 + 21
    assert got.status is PriceStatus.PRICED
    assert (got.input_per_mtok, got.output_per_mtok, got.cached_per_mtok) == (
        Decimal(2),
        Decimal(8),
        Decimal("0.000001"),
    )


def test_what_has_no_own_price_costs_nothing_or_what_input_costs() -> None:
    got = price(
        known(fields()),
        input_tokens=10,
        cache_read_tokens=4,
        cache_write_tokens=3,
        input_audio_tokens=2,
        web_searches=5,
        images=2,
        pages=7,
        input_characters=100,
        audio_seconds=60,
    )

    assert got.total == 10 * 2_000_000
    assert (got.cache, got.tool, got.cached_per_mtok) == (7 * 2_000_000, 0, Decimal(2))


@pytest.mark.parametrize(("provider", "model"), [("ollama", "llama3"), ("openai", "gpt-99"), ("acme", "own")])
def test_free_and_unknown_models_may_have_a_price(provider: str, model: str) -> None:
    catalogue = Catalogue(known(fields(provider=provider, model=model)))

    got = catalogue.price(provider, model, NOON, PLAIN, Counts(1, 1))

    assert (got.status, got.source, got.total) == (PriceStatus.PRICED, "override", 10_000_000)
    assert got.model == f"{provider}/{model}"


def test_the_largest_call_at_the_largest_price_is_exact() -> None:
    overrides = known(fields(input_usd_per_mtok="1000000", usd_per_request="1000000"))

    got = price(overrides, requests=10**6, input_tokens=10**9)

    assert got.total == pico_from_usd(Decimal(10**9) + Decimal(10**12))


def test_of_two_for_the_same_moment_the_last_holds_and_a_withdrawn_one_gives_way() -> None:
    early = fields(valid_from="2026-10-01T00:00:00Z", input_usd_per_mtok="1")
    first, second = fields(input_usd_per_mtok="3"), fields(input_usd_per_mtok="4")
    withdrawn = {**second, "withdrawn": True}

    assert price(known(early, first, second), input_tokens=1).total == 4_000_000
    assert price(known(early, first, second, withdrawn), input_tokens=1).total == 1_000_000
    assert price(known(first, {**first, "withdrawn": True}), input_tokens=1).source == "genai-prices"
    assert price(known(first, {**first, "withdrawn": True}, first), input_tokens=1).total == 3_000_000


@pytest.mark.parametrize("bad", [None, b"", b"{}", b"\xff", fields(input_usd_per_mtok="0.0000001")])
def test_a_record_that_is_no_override_is_logged_and_left_out(
    bad: dict[str, Any] | bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        overrides = known(fields(), bad)

    assert "the price at offset 1 is left out" in caplog.text
    assert overrides.version == 2
    assert price(overrides, input_tokens=1).total == 2_000_000


def test_rows_of_a_chunk_say_what_they_rest_on() -> None:
    overrides = known(fields(), b"no override")
    events = [
        {
            "event_id": name,
            "timestamp": at,
            "provider": "openai",
            "model": "gpt-4o",
            "input_tokens": 1000,
            "requests": 2,
        }
        for name, at in (("a", "2026-11-01T11:59:59Z"), ("b", "2026-11-01T12:00:00Z"))
    ]
    records = tuple(
        Record(offset, NOON_MS, None, json.dumps(event).encode()) for offset, event in enumerate(events)
    )

    rows = price_chunk(
        Chunk("usage.events", 0, records), SeenIds(7), Catalogue(overrides), NOON, max_future_seconds=3600
    ).rows.to_pylist()

    assert [row["price_source"] for row in rows] == ["genai-prices", "override"]
    assert {row["price_version"] for row in rows} == {f"genai-prices/{CATALOGUE_VERSION}+prices@2"}
    assert rows[1]["priced_model"] == "openai/gpt-4o"
    assert (rows[1]["cost_usd"], rows[1]["input_price_per_mtok"]) == (Decimal("0.002"), Decimal(2))
    for row in rows:
        parts = [row[f"{part}_cost_usd"] for part in ("input", "cache", "output", "tool")]
        assert sum(parts) == row["list_cost_usd"] == row["cost_usd"]


def test_without_a_record_the_version_is_the_catalogues_alone() -> None:
    assert Catalogue().version == f"genai-prices/{CATALOGUE_VERSION}"


MOMENTS = st.integers(0, 5).map(lambda hours: NOON + timedelta(hours=hours))
MONEY = st.decimals(0, 100, places=6).map(str)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "provider": st.sampled_from(["openai", "OpenAI", "ollama"]),
            "model": st.sampled_from(["gpt-4o", "own"]),
            "valid_from": MOMENTS.map(datetime.isoformat),
            "input_usd_per_mtok": MONEY,
            "output_usd_per_mtok": MONEY,
            "cache_read_usd_per_mtok": st.none() | MONEY,
            "cache_write_usd_per_mtok": st.none() | MONEY,
            "usd_per_request": st.decimals(0, 1, places=12).map(lambda usd: f"{usd:f}"),
            "withdrawn": st.booleans(),
        }
    )
    | st.none(),
    max_size=12,
)


def slow_cost(
    records: Sequence[dict[str, Any] | None],
    name: tuple[str, str],
    at: datetime,
    counts: Counts,
    requests: int,
) -> Decimal | None:
    """USD, by looking at every record: of those that hold the one of the latest moment; None for the catalogue."""
    last = {}
    for record in records:
        if record is not None and (record["provider"].lower(), record["model"]) == name:
            last[datetime.fromisoformat(record["valid_from"])] = record
    holding = {moment: record for moment, record in last.items() if moment <= at and not record["withdrawn"]}
    if not holding:
        return None
    record = holding[max(holding)]

    def usd(field: str) -> Decimal:
        return Decimal(record[field] or record["input_usd_per_mtok"])

    tokens = (
        (counts.input_tokens - counts.cache_read_tokens - counts.cache_write_tokens)
        * usd("input_usd_per_mtok")
        + counts.cache_read_tokens * usd("cache_read_usd_per_mtok")
        + counts.cache_write_tokens * usd("cache_write_usd_per_mtok")
        + counts.output_tokens * usd("output_usd_per_mtok")
    )
    return tokens / 1_000_000 + requests * Decimal(record["usd_per_request"])


@given(
    records=RECORDS,
    name=st.tuples(st.sampled_from(["openai", "ollama"]), st.sampled_from(["gpt-4o", "own"])),
    at=MOMENTS,
    fresh=st.integers(0, 10**6),
    read=st.integers(0, 10**6),
    written=st.integers(0, 10**6),
    output=st.integers(0, 10**6),
    requests=st.integers(1, 1000),
)
@settings(max_examples=300, deadline=None)
def test_what_holds_and_what_it_costs_is_what_slow_code_says(
    records: list[dict[str, Any] | None],
    name: tuple[str, str],
    at: datetime,
    fresh: int,
    read: int,
    written: int,
    output: int,
    requests: int,
) -> None:
    counts = Counts(fresh + read + written, output, read, written)

    got = Catalogue(known(*records)).price(*name, at, PLAIN, counts, requests)

    wanted = slow_cost(records, name, at, counts, requests)
    assert (got.source == "override") == (wanted is not None)
    if wanted is not None:
        assert got.total == wanted.scaleb(12)
        assert got.total == sum((got.input or 0, got.cache or 0, got.output or 0, got.tool or 0))
