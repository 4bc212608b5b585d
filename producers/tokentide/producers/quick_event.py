"""The short way of an event to its record, for what services send all the time; the model judges all the rest."""

from datetime import datetime
from math import isnan
from typing import Annotated, Any

import msgspec

from tokentide.schemas.provider import canonical_provider
from tokentide.schemas.usage import CONTAINED, in_utc
from tokentide.schemas.usage_struct import usage_struct

__all__ = ["QuickEvent", "quick_event"]

QuickEvent = Any
"""A struct with the fields of UsageEvent: times in UTC, counts that agree."""

_Event: Any = usage_struct(
    "QuickEvent",
    moment=Annotated[datetime, msgspec.Meta(tz=True)],
    # Any JSON, of any depth: the model's business.
    special={
        "metadata": (
            Annotated[dict[str, None], msgspec.Meta(max_length=0)],
            msgspec.field(default_factory=dict),
        )
    },
    # In every record, though the model can do without.
    required=frozenset({"event_id", "schema_version"}),
)
_NO_DICT: dict[str, Any] = {}
_PARTS = {
    name: [pair for pair in CONTAINED if name in pair[0]] for smaller, _ in CONTAINED for name in smaller
}
"""By count: where it is counted inside something."""
_PART_NAMES = frozenset(_PARTS)
_encode = msgspec.json.Encoder().encode


def quick_event(fields: dict[str, Any]) -> tuple[QuickEvent, bytes] | None:
    """Return the event that the fields make, which must name its id, and its JSON; None where the model must judge.

    The model accepts whatever is accepted here, and reads the same event from the JSON.
    """
    try:
        # Times must be times: text is read by neither.
        event = msgspec.convert(fields, _Event, builtin_types=(datetime,))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        return None
    try:
        event.timestamp = in_utc(event.timestamp)
        if event.provider_created is not None:
            event.provider_created = in_utc(event.provider_created)
    except ValueError:
        return None
    event.provider = canonical_provider(event.provider)
    total = event.input_tokens + event.output_tokens
    if event.total_tokens is None:
        # Zero is left out of the record.
        event.total_tokens = total or None
    elif event.total_tokens != total:
        return None
    for name in _PART_NAMES.intersection(fields):
        if getattr(event, name) and not _fits(event, name):
            return None
    # Other mappings are no JSON to the model.
    if type(fields.get("tags", _NO_DICT)) is not dict or type(fields.get("metadata", _NO_DICT)) is not dict:
        return None
    # NaN is in no range, and msgspec does not see it.
    if isnan(event.latency_ms or 0) or isnan(event.ttft_ms or 0) or isnan(event.complexity_score or 0):
        return None
    try:
        value = _encode(event)
    except (msgspec.MsgspecError, ValueError):
        return None
    # The model's patterns forbid control characters, which JSON can hold only behind a backslash.
    return None if b"\\" in value else (event, value)


def _fits(event: QuickEvent, name: str) -> bool:
    for smaller, larger in _PARTS[name]:
        inside = 0
        for part in smaller:
            inside += getattr(event, part)
        if inside > getattr(event, larger):
            return False
    return True
