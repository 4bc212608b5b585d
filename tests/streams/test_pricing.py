"""What becomes of a chunk: rows, refusals, duplicates, as a function of values."""

import base64
import itertools
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.schemas import PricedUsage, PriceStatus, Rejected, UsageEvent, pico_from_usd
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import PRICED_SCHEMA, read_chunk, write_chunk
from tokentide.streams.clock import EventClock
from tokentide.streams.prices import CATALOGUE_VERSION, Catalogue
from tokentide.streams.pricing import Priced, price_chunk
from tokentide.streams.rows import read_rows
from tokentide.streams.seen import SeenIds

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
NOW_MS = 1_793_534_400_000
HOUR_MS = 3_600_000
CATALOGUE = Catalogue()


def event(event_id: str = "e-1", **changes: Any) -> bytes:
    values = {
        "event_id": event_id,
        "timestamp": "2026-11-01T11:59:00Z",
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 1000,
        "output_tokens": 100,
        **changes,
    }
    return json.dumps(values).encode()


def chunk(*values: bytes | None, first: int = 10, timestamp: int = NOW_MS) -> Chunk:
    records = (Record(first + place, timestamp, b"key", value) for place, value in enumerate(values))
    return Chunk("usage.events", 3, tuple(records))


def priced(work: Chunk, seen: SeenIds | None = None) -> Priced:
    return price_chunk(work, SeenIds(7) if seen is None else seen, CATALOGUE, NOW, max_future_seconds=3600)


def offsets(result: Priced) -> list[Any]:
    return result.rows["source_offset"].to_pylist()


def test_a_record_of_an_id_seen_in_the_same_chunk_is_a_duplicate() -> None:
    result = priced(chunk(event("a"), event("b"), event("a", input_tokens=7), event("b")))

    assert offsets(result) == [10, 11]
    assert result.rows["input_tokens"].to_pylist() == [1000, 1000]
    assert (result.duplicates, result.rejected) == (2, ())


def test_a_record_of_an_id_seen_in_an_earlier_chunk_is_a_duplicate() -> None:
    seen = SeenIds(7)
    priced(chunk(event("a"), first=0), seen)

    result = priced(chunk(event("a"), event("b"), first=1), seen)

    assert offsets(result) == [2]
    assert result.duplicates == 1


def test_the_same_record_again_is_a_replay_and_gives_the_same_row() -> None:
    seen = SeenIds(7)
    work = chunk(event("a"), event("b"), event("a"), b"poison")
    first = priced(work, seen)

    again = priced(work, seen)

    assert again.rows.equals(first.rows)
    assert again.rejected == first.rejected
    assert again.duplicates == first.duplicates == 1


def test_a_replay_in_other_chunks_gives_the_same_rows() -> None:
    seen = SeenIds(7)
    values = [event(name) for name in "abcabd"]
    whole = priced(chunk(*values), seen)

    parts = [priced(chunk(*values[:2]), seen), priced(chunk(*values[2:], first=12), seen)]

    assert [offset for part in parts for offset in offsets(part)] == offsets(whole) == [10, 11, 12, 15]


def test_a_refused_record_takes_no_id() -> None:
    result = priced(chunk(event("a", input_tokens=-1), event("a")))

    assert offsets(result) == [11]
    assert [refusal.offset for refusal in result.rejected] == [10]
    assert result.duplicates == 0


def test_a_chunk_without_any_event_gives_no_rows_of_the_right_schema() -> None:
    result = priced(chunk(b"poison", None))

    assert result.rows.num_rows == 0
    assert result.rows.schema.equals(PRICED_SCHEMA)
    assert read_chunk(write_chunk(result.rows)).schema.equals(PRICED_SCHEMA)
    assert [refusal.value for refusal in result.rejected] == [b"poison", None]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the record has no value; publish one JSON object per record"),
        (b"{", "the record: Invalid JSON"),
        (event(input_tokens=-1), "input_tokens: Input should be greater than or equal to 0"),
        (
            event(total_tokens=7),
            "total_tokens = 7, but input_tokens + output_tokens = 1100; leave total_tokens out",
        ),
        (event(cache_read_tokens=2000), "cannot exceed input_tokens = 1000: input_tokens includes them"),
        (
            b'{"timestamp":"2026-11-01T00:00:00Z","provider":"a","model":"b"}',
            "event_id: missing; send the id",
        ),
        (event(timestamp="2026-11-01T13:00:01Z"), "3601 seconds after its record was produced; at most 3600"),
    ],
)
def test_a_refusal_says_what_to_mend_and_holds_the_record(value: bytes | None, reason: str) -> None:
    (refusal,) = priced(chunk(value)).rejected

    assert reason in refusal.reason
    assert (refusal.topic, refusal.partition, refusal.offset) == ("usage.events", 3, 10)
    assert (refusal.timestamp, refusal.key, refusal.value) == (NOW, b"key", value)


@pytest.mark.parametrize("value", [None, b"\xff\x00poison", event(input_tokens=-1, user_id="x" * 3000)])
def test_a_refusal_can_be_read_by_its_published_model(value: bytes | None) -> None:
    (refusal,) = priced(chunk(value)).rejected

    text = refusal.model_dump_json()

    assert Rejected.model_validate_json(text).value == value
    assert json.loads(text)["value"] == (value and base64.b64encode(value).decode())


@pytest.mark.parametrize("timestamp", [-(2**63), -1, 0, 2**63 - 1, 253_402_300_800_000])
def test_a_record_from_a_broken_clock_stops_nothing(timestamp: int) -> None:
    result = priced(chunk(event(), b"poison", timestamp=timestamp))

    assert result.rows.num_rows + len(result.rejected) == 2
    for refusal in result.rejected:
        assert 1970 <= refusal.timestamp.year <= 2100


@pytest.mark.parametrize(("microseconds", "is_accepted"), [(-1, True), (0, True), (1, False)])
def test_an_event_may_lie_an_hour_ahead_of_its_record_and_not_a_microsecond_more(
    microseconds: int, is_accepted: bool
) -> None:
    for record_ms in range(NOW_MS, NOW_MS + 50):
        limit = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=record_ms + HOUR_MS)
        moment = limit + timedelta(microseconds=microseconds)

        result = priced(chunk(event(timestamp=moment.isoformat()), timestamp=record_ms))

        assert result.rows.num_rows == is_accepted


def test_a_producers_clock_that_runs_ahead_makes_no_id_forgotten() -> None:
    seen = SeenIds(7)
    priced(chunk(event("a"), first=0), seen)
    priced(chunk(event("b"), first=1, timestamp=NOW_MS + 30 * 24 * HOUR_MS), seen)

    result = priced(chunk(event("a"), event("b"), first=2), seen)

    assert result.duplicates == 2


FULL: dict[str, Any] = {
    "event_id": "full",
    "schema_version": 1,
    "timestamp": "2026-11-01T11:59:00.123456+00:00",
    "user_id": "größe 😀",
    "team_id": "team",
    "org_id": "org",
    "session_id": "s",
    "conversation_id": "c",
    "subscription_tier": "gold",
    "service": "chat",
    "environment": "prod",
    "operation": "answer",
    "operation_id": "op",
    "prompt_id": "p",
    "run_id": "r",
    "agent_name": "agent",
    "api_operation": "responses",
    "provider": "claude",
    "model": "claude-haiku-4-5",
    "request_model": "claude-haiku",
    "model_version": "20251001",
    "request_id": "req",
    "provider_created": "2026-11-01T11:58:59Z",
    "system_fingerprint": "fp",
    "service_tier": "standard",
    "speed": "standard",
    "region": "eu",
    "finish_reason": "stop",
    "processing": "standard",
    "input_tokens": 1000,
    "output_tokens": 100,
    "total_tokens": 1100,
    "cache_read_tokens": 300,
    "cache_write_tokens": 200,
    "cache_write_1h_tokens": 100,
    "reasoning_tokens": 10,
    "input_audio_tokens": 5,
    "output_audio_tokens": 4,
    "input_image_tokens": 3,
    "output_image_tokens": 2,
    "cache_audio_read_tokens": 1,
    "audio_seconds": "1.5",
    "input_characters": 11,
    "images": 1,
    "image_size": "1024x1024",
    "image_quality": "high",
    "pages": 2,
    "web_searches": 3,
    "tool_calls": 4,
    "requests": 5,
    "estimated": True,
    "stream": True,
    "latency_ms": 812.5,
    "ttft_ms": 101.25,
    "status": "error",
    "error_type": "timeout",
    "error_message": 'a "quoted"\nline\u0000',
    "complexity_score": 0.5,
    "provider_cost_usd": "0.001234567891",
    "trace_id": "t",
    "span_id": "sp",
    "tags": {"feature": "search", "b": ""},
    "metadata": {"slides": [1, 2.5, None], "titel": "ü"},
    "sdk_name": "tokentide",
    "sdk_version": "0.1.0",
    "source": "otel",
}


def row_as_model(row: dict[str, Any]) -> PricedUsage:
    values = {**row, "tags": dict(row["tags"]), "metadata": json.loads(row["metadata"])}
    return PricedUsage.model_validate(values)


def test_the_full_event_of_this_test_has_every_field() -> None:
    assert set(FULL) == set(UsageEvent.model_fields)


@pytest.mark.parametrize(
    "value",
    [
        json.dumps(FULL).encode(),
        json.dumps(FULL, ensure_ascii=False).encode(),
        event(),
        event(provider="acme"),
        event(provider="ollama"),
        event(audio_seconds="0", provider_cost_usd="0"),
        event(audio_seconds="0." + "0" * 30, provider_cost_usd="1E+3"),
        event(model="whisper-1", input_tokens=0, output_tokens=0, audio_seconds="999999999.999999999999"),
        event(metadata={"a": "\u0000", "b": 10**40}, tags={"\n": "\t"}),
        event(input_tokens=10**9, output_tokens=10**9, web_searches=10**9),
        event(provider="huggingface_together", model="Qwen/Qwen3-VL-8B-Instruct"),
    ],
)
def test_every_column_comes_back_from_the_topic_as_it_went(value: bytes) -> None:
    result = priced(chunk(value))

    (row,) = read_chunk(write_chunk(result.rows)).to_pylist()

    sent, got = UsageEvent.from_wire(value), row_as_model(row)
    assert {name: getattr(got, name) for name in UsageEvent.model_fields} == {
        name: getattr(sent, name) for name in UsageEvent.model_fields
    }
    assert (got.source_partition, got.source_offset, got.priced_at) == (3, 10, NOW)
    assert (got.currency, got.price_version, got.discount_pct) == (
        "USD",
        f"genai-prices/{CATALOGUE_VERSION}",
        Decimal(0),
    )
    assert got.cost_usd == got.list_cost_usd
    parts = (got.input_cost_usd, got.cache_cost_usd, got.output_cost_usd, got.tool_cost_usd)
    if got.price_status is PriceStatus.UNPRICED:
        assert got.cost_usd is None
        assert parts == (None, None, None, None)
    else:
        assert sum(part for part in parts if part is not None) == got.cost_usd


def test_a_row_holds_what_the_call_cost() -> None:
    (row,) = priced(chunk(event(cache_read_tokens=200))).rows.to_pylist()

    assert row["cost_usd"] == Decimal("0.003250000000")
    assert row["input_cost_usd"] == Decimal("0.002")
    assert row["cache_cost_usd"] == Decimal("0.00025")
    assert row["output_cost_usd"] == Decimal("0.001")
    assert row["tool_cost_usd"] == 0
    assert (row["input_price_per_mtok"], row["output_price_per_mtok"]) == (Decimal("2.5"), Decimal(10))
    assert row["cached_price_per_mtok"] == Decimal("1.25")
    assert (row["price_status"], row["price_source"]) == ("priced", "genai-prices")
    assert (row["priced_model"], row["provider"], row["model"]) == ("openai/gpt-4o", "openai", "gpt-4o")


def test_costs_beyond_64_bits_stand_beside_small_and_unknown_ones() -> None:
    result = priced(
        chunk(
            event("small"),
            event("large", web_searches=10**9),
            event("unknown", model="gpt-that-nobody-knows"),
            event("free", provider="local"),
        )
    )

    costs = [None if cost is None else pico_from_usd(cost) for cost in result.rows["cost_usd"].to_pylist()]
    assert costs == [3_500_000_000, 10**19 + 3_500_000_000, None, 0]
    assert result.rows["tool_cost_usd"].to_pylist()[1] == 10_000_000
    assert read_rows(write_chunk(result.rows)).costs == costs


poison = st.sampled_from([None, b"", b"[]", b"\xff", event(input_tokens=True), event(timestamp="today")])
good = st.builds(
    event,
    st.sampled_from([f"id-{number}" for number in range(12)]),
    model=st.sampled_from(["gpt-4o", "gpt-that-nobody-knows", "gpt-4o-mini"]),
    input_tokens=st.integers(0, 10**9),
    web_searches=st.sampled_from([0, 0, 1, 10**9]),
)


@given(st.lists(poison | good, min_size=1, max_size=40), st.lists(st.integers(1, 40), max_size=4))
@settings(max_examples=100, deadline=None)
def test_every_record_is_a_row_a_refusal_or_a_duplicate(values: list[bytes | None], cuts: list[int]) -> None:
    borders = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    seen = SeenIds(7)

    results = [
        priced(chunk(*values[start:end], first=start), seen) for start, end in itertools.pairwise(borders)
    ]

    firsts: dict[str, int] = {}
    refused = []
    for offset, value in enumerate(values):
        try:
            name = UsageEvent.from_wire(value).event_id
        except ValueError:
            refused.append(offset)
        else:
            firsts.setdefault(name, offset)
    assert [offset for result in results for offset in offsets(result)] == sorted(firsts.values())
    assert [refusal.offset for result in results for refusal in result.rejected] == refused
    assert sum(result.duplicates for result in results) == len(values) - len(firsts) - len(refused)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_costs_are_read_back_exactly_wherever_a_batch_begins(start: int) -> None:
    rows = priced(chunk(event("a"), event("b", web_searches=10**9), event("c", provider="acme"))).rows

    costs = read_rows(write_chunk(rows.slice(start))).costs

    assert costs == [3_500_000_000, 10**19 + 3_500_000_000, None][start:]


def test_a_row_says_whether_its_day_or_its_month_was_closed_when_it_came() -> None:
    clock = EventClock(0, _seconds("2026-10-25T00:00:00Z"), _seconds("2026-09-01T00:00:00Z"))
    moments = [
        ("2026-10-25T00:00:00Z", 0),
        ("2026-10-24T23:59:59.999999Z", 1),
        ("2026-09-01T00:00:00Z", 1),
        ("2026-08-31T23:59:59.999999Z", 2),
    ]
    work = chunk(*(event(moment, timestamp=moment) for moment, _ in moments))

    result = price_chunk(work, SeenIds(7), CATALOGUE, NOW, 3600, clock)

    assert result.rows["late"].to_pylist() == [late for _, late in moments]
    assert result.newest == _seconds("2026-10-25T00:00:00Z") * 1000
    assert priced(chunk(b"no event")).newest == 0


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
