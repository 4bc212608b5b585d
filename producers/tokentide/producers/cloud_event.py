"""A usage event as a Kafka record: a CloudEvent 1.0 in binary content mode."""

from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic_core import to_json

from tokentide.producers.quick_event import QuickEvent
from tokentide.schemas import UsageEvent

__all__ = ["EVENT_TYPE", "Record", "record_of", "record_with"]

EVENT_TYPE = "ai.usage.recorded.v1"

Headers = list[tuple[str, str | bytes | None]]

_SPECVERSION = ("ce_specversion", b"1.0")
_TYPE = ("ce_type", EVENT_TYPE.encode())
_TIME = b'"timestamp":"'
_CONTENT_TYPE = ("content-type", b"application/json")
_ALWAYS = frozenset({"event_id", "schema_version", "timestamp", "provider", "model"})
_NEVER_EQUAL = object()
# A field that holds its default is left out of the record; total_tokens is left out when it is zero.
_LEFT_OUT: dict[str, Any] = {
    name: _NEVER_EQUAL
    if name in _ALWAYS
    else {"total_tokens": 0, "tags": {}, "metadata": {}}.get(name, field.default)
    for name, field in UsageEvent.model_fields.items()
}


class Record(NamedTuple):
    """What is sent to Kafka for one event."""

    key: bytes
    value: bytes
    headers: Headers


def record_of(event: UsageEvent, source: str) -> Record:
    """Return the record of the event.

    The key is the user, so that a user's events keep their order; an event of nobody has its own id as key.
    `source` is the CloudEvents source of an event that names no service.
    """
    values = event.__dict__
    # Twice as fast as model_dump_json(exclude_defaults=True), and the same JSON.
    value = to_json(
        {name: values[name] for name, default in _LEFT_OUT.items() if values[name] != default},
        inf_nan_mode="null",
    )
    return record_with(event, value, source)


def record_with(event: UsageEvent | QuickEvent, value: bytes, source: str) -> Record:
    """Return the record of the event, whose JSON, without spaces between names and values, is `value`."""
    event_id = event.event_id.encode()
    user = event.user_id.encode() if event.user_id else None
    headers: Headers = [
        _SPECVERSION,
        _TYPE,
        ("ce_id", event_id),
        ("ce_source", _uri_reference(event.service or source)),
        ("ce_time", _time_in(value)),
        _CONTENT_TYPE,
    ]
    if user:
        headers.append(("ce_subject", user))
    return Record(user or event_id, value, headers)


def _time_in(value: bytes) -> bytes:
    # In a text, the quotes would stand behind backslashes.
    start = value.index(_TIME) + len(_TIME)
    return value[start : value.index(b'"', start)]


@lru_cache(maxsize=256)
def _uri_reference(name: str) -> bytes:
    return quote(name, safe="/:@!$&'()*+,;=~").encode()
