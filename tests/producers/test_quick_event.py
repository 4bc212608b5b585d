"""The short way and the model agree: what the one takes the other takes too, and reads the same from the record."""

import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tokentide.producers.cloud_event import record_from, record_of, source_of
from tokentide.producers.quick_event import quick_event
from tokentide.schemas import ApiOperation, Status, UsageEvent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENT: dict[str, Any] = {
    "event_id": "e-1",
    "schema_version": 1,
    "timestamp": NOON,
    "provider": "openai",
    "model": "gpt-4o",
}


def by_model(fields: dict[str, Any]) -> UsageEvent | None:
    try:
        return UsageEvent(**fields)
    except ValidationError:
        return None


def assert_agree(fields: dict[str, Any]) -> None:
    """The short way leaves it to the model, or makes the record that the model's event has."""
    quick = quick_event(dict(fields))
    if quick is None:
        return
    event, value = quick
    model = by_model(fields)
    assert model is not None
    assert UsageEvent.from_wire(value) == UsageEvent.from_wire(record_of(model, "s").value)
    record = record_from(value, source_of(event.service or "s"))
    assert record._replace(value=b"") == record_of(model, "s")._replace(value=b"")
    assert (event.team_id, event.user_id, event.timestamp) == (model.team_id, model.user_id, model.timestamp)


QUICK: list[dict[str, Any]] = [
    {},
    {"user_id": "ann", "team_id": "blue", "service": "my chat", "tags": {"a": "b"}, "metadata": {}},
    {"input_tokens": 9, "output_tokens": 3, "cache_read_tokens": 4, "cache_write_tokens": 5},
    {"input_tokens": 9, "total_tokens": 9, "latency_ms": 812.0, "ttft_ms": 3, "stream": True},
    {"timestamp": datetime(2026, 3, 1, 13, 30, 0, 250, tzinfo=timezone(timedelta(hours=1)))},
    {"provider": "gcp.gemini", "provider_created": NOON, "status": "error", "api_operation": "responses"},
    {"user_id": "", "team_id": None, "requests": 3},
    {"user_id": "Zoë 日本 🦊", "estimated": True, "source": "otel", "processing": "batch"},
]


@pytest.mark.parametrize("fields", QUICK, ids=str)
def test_what_services_send_goes_the_short_way(fields: dict[str, Any]) -> None:
    assert quick_event(EVENT | fields) is not None
    assert_agree(EVENT | fields)


def test_the_record_of_the_short_way_has_the_same_bytes() -> None:
    fields = EVENT | {
        "user_id": "ann",
        "input_tokens": 7,
        "output_tokens": 2,
        "latency_ms": 1.5,
        "tags": {"a": "b"},
    }

    quick = quick_event(dict(fields))

    assert quick is not None
    assert quick[1] == record_of(UsageEvent(**fields), "s").value


TRICKY: list[dict[str, Any]] = [
    {"event_id": ""},
    {"event_id": None},
    {"event_id": "x" * 129},
    {"schema_version": 2},
    {"schema_version": True},
    {"timestamp": "2026-03-01T12:00:00Z"},
    {"timestamp": datetime(2026, 3, 1)},
    {"timestamp": NOON.timestamp()},
    {"timestamp": datetime(2009, 12, 31, tzinfo=UTC)},
    {"timestamp": datetime(2100, 1, 1, tzinfo=UTC)},
    {"timestamp": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
    {"timestamp": None},
    {"user_id": "a\nb"},
    {"user_id": "a\x7fb"},
    {"user_id": 'a"b'},
    {"user_id": "a\\b"},
    {"user_id": "\ud800"},
    {"user_id": "x" * 257},
    {"user_id": b"ann"},
    {"user_id": 7},
    {"model": ""},
    {"provider": None},
    {"input_tokens": True},
    {"input_tokens": 1.0},
    {"input_tokens": "1"},
    {"input_tokens": -1},
    {"input_tokens": 10**9 + 1},
    {"input_tokens": 2**70},
    {"input_tokens": 1, "total_tokens": 2},
    {"total_tokens": None},
    {"total_tokens": 0},
    {"cache_read_tokens": 1},
    {"reasoning_tokens": 1},
    {"requests": 0},
    {"latency_ms": math.nan},
    {"latency_ms": math.inf},
    {"latency_ms": -0.0},
    {"latency_ms": -1.0},
    {"latency_ms": Decimal(1)},
    {"latency_ms": True},
    {"audio_seconds": Decimal("1.5")},
    {"audio_seconds": Decimal(0)},
    {"audio_seconds": 0},
    {"provider_cost_usd": Decimal("NaN")},
    {"status": Status.ERROR},
    {"status": "failed"},
    {"api_operation": ApiOperation.SPEECH},
    {"stream": 1},
    {"stream": None},
    {"tags": {"a": 1}},
    {"tags": {"": "a"}},
    {"tags": {1: "a"}},
    {"tags": {str(number): "" for number in range(33)}},
    {"tags": {"a\n": "b"}},
    {"tags": None},
    {"tags": MappingProxyType({"a": "b"})},
    {"tags": [("a", "b")]},
    {"metadata": {"a": 1}},
    {"metadata": None},
    {"metadata": MappingProxyType({})},
    {"error_message": "line\nline"},
    {"error_message": "x" * 2049},
    {"source": "elsewhere"},
    {"unknown": 1},
]


@pytest.mark.parametrize("fields", TRICKY, ids=str)
def test_what_is_odd_is_never_taken_otherwise_than_by_the_model(fields: dict[str, Any]) -> None:
    assert_agree(EVENT | fields)


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=6),
    st.sampled_from(["standard", "batch", "error", "chat", "sdk", "xai", "x" * 257]),
    st.datetimes(timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=14))])),
    st.dictionaries(st.text(max_size=2), st.text(max_size=2) | st.integers(), max_size=3),
)


@given(st.dictionaries(st.sampled_from(sorted(UsageEvent.model_fields)), _VALUES, max_size=5))
def test_any_values_of_any_fields(changes: dict[str, Any]) -> None:
    assert_agree(EVENT | changes)


_COUNTS = st.dictionaries(
    st.sampled_from(sorted(name for name in UsageEvent.model_fields if name.endswith("_tokens"))),
    st.integers(0, 5),
)


@given(_COUNTS)
def test_counts_that_contradict_each_other_are_refused_by_both(counts: dict[str, int]) -> None:
    fields = EVENT | counts

    assert (quick_event(dict(fields)) is None) == (by_model(fields) is None)
    assert_agree(fields)
