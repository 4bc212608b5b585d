"""The short way of an event to its record, for what services send all the time; the model judges all the rest."""

from datetime import datetime
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
    metadata=Annotated[dict[str, None], msgspec.Meta(max_length=0)],
    no_metadata=msgspec.field(default_factory=dict),
    # In every record, though the model can do without.
    required=frozenset({"event_id", "schema_version"}),
)
_DICTS = frozenset({"metadata", "tags"})
_UNSURE = _DICTS | {"complexity_score", "latency_ms", "ttft_ms"}
_PARTS = frozenset(name for smaller, _ in CONTAINED for name in smaller)
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
    if not _PARTS.isdisjoint(fields) and not _counts_agree(event):
        return None
    # NaN is in no range, and msgspec does not see it; other mappings are no JSON to the model.
    for name in _UNSURE.intersection(fields):
        given = fields[name]
        if given != given or (name in _DICTS and type(given) is not dict):
            return None
    try:
        value = _encode(event)
    except (msgspec.MsgspecError, ValueError):
        return None
    # The model's patterns forbid control characters, which JSON can hold only behind a backslash.
    return None if b"\\" in value else (event, value)


def _counts_agree(event: QuickEvent) -> bool:
    for smaller, larger in CONTAINED:
        inside = 0
        for name in smaller:
            inside += getattr(event, name)
        if inside > getattr(event, larger):
            return False
    return True
