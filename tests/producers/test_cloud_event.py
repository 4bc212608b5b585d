"""The bytes of a record, as a function of the event."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from tokentide.producers.cloud_event import record_of
from tokentide.schemas import ApiOperation, Status, UsageEvent

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def event(**fields: Any) -> UsageEvent:
    required: dict[str, Any] = {"event_id": "e-1", "timestamp": NOON, "provider": "openai", "model": "m"}
    return UsageEvent(**required | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"user_id": "", "requests": 2, "stream": True, "processing": "batch"},
        {"api_operation": ApiOperation.SPEECH, "status": Status.ERROR, "error_message": 'a "quoted"\nline é'},
        {"audio_seconds": Decimal("12.5"), "provider_cost_usd": Decimal("0.000000000001")},
        {"audio_seconds": Decimal("0.00"), "latency_ms": 0.0, "ttft_ms": 1},
        {"tags": {"a": "b"}, "metadata": {"deep": [{"x": 1.5, "y": None, "z": True}], "big": 2**70}},
        {"input_tokens": 9, "output_tokens": 3, "cache_read_tokens": 4, "cache_write_tokens": 5},
        {"timestamp": datetime(2026, 3, 1, 13, 30, 0, 250, tzinfo=timezone(timedelta(hours=1)))},
        {"provider_created": NOON, "source": "replay", "estimated": True},
    ],
)
def test_a_record_decodes_to_the_event_it_was_made_of(fields: dict[str, Any]) -> None:
    original = event(**fields)

    value = record_of(original, "tokentide").value

    assert UsageEvent.model_validate_json(value) == original


def test_what_is_left_out_is_what_pydantic_leaves_out() -> None:
    original = event(user_id="ann", tags={"a": "b"}, input_tokens=1, audio_seconds=Decimal("1.25"))

    value = json.loads(record_of(original, "tokentide").value)

    assert value == json.loads(original.model_dump_json(exclude_defaults=True)) | {"schema_version": 1}


def test_an_event_of_defaults_has_five_fields() -> None:
    value = json.loads(record_of(event(), "tokentide").value)

    assert list(value) == ["event_id", "schema_version", "timestamp", "provider", "model"]


def test_numbers_that_json_does_not_know_become_null() -> None:
    value = json.loads(record_of(event(metadata={"score": float("nan")}), "tokentide").value)

    assert value["metadata"] == {"score": None}


@pytest.mark.parametrize(
    ("service", "source"),
    [
        ("chat", b"chat"),
        ("//shop/chat?x=1#y", b"//shop/chat%3Fx=1%23y"),
        ("größe", b"gr%C3%B6%C3%9Fe"),
        ("", b"fallback"),
        (None, b"fallback"),
    ],
)
def test_the_source_is_the_service_as_a_uri_reference(service: str | None, source: bytes) -> None:
    headers = dict(record_of(event(service=service), "fallback").headers)

    assert headers["ce_source"] == source


def test_keys_and_headers_are_utf_8() -> None:
    record = record_of(event(user_id="Zoë"), "tokentide")

    assert record.key == "Zoë".encode()
    assert dict(record.headers)["ce_subject"] == "Zoë".encode()
