"""Decoding of usage events at msgspec's speed, under the contract of the pydantic model.

The struct is derived from UsageEvent. It accepts only what UsageEvent surely accepts; everything else is
asked of UsageEvent itself, which accepts it or gives the reason. So both always agree.
"""

import enum
import re
import types
import typing
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import annotated_types
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import to_json

from tokentide.schemas import InvalidEventError, UsageEvent
from tokentide.schemas.provider import canonical_provider
from tokentide.schemas.usage import CONTAINED, MAX_COUNT
from tokentide.streams.event_columns import EventColumns
from tokentide.streams.moments import UNSURE, read_moments

__all__ = ["FIELDS", "Decoding", "decode"]

FIELDS = tuple(UsageEvent.model_fields)
"""The fields of an event, in the order of the model."""

# A raw length that no re-encoding can push over the model's limit on metadata.
_SURE_METADATA_BYTES = 2048
# JSON that msgspec skips unread, but pydantic may refuse or read as another value: deep nesting, long numbers.
_SURE_DEPTH = 64
_UNSURE_NUMBER = re.compile(rb"\d[eE]|\d{16}")
_NO_METADATA = msgspec.Raw(b"{}")
# No number: a field that is there at all.
_NEVER: Any = typing.Annotated[int, msgspec.Meta(ge=1, le=0)]


def _constrained(base: type, metadata: list[Any]) -> Any:
    limits: dict[str, Any] = {}
    for rule in metadata:
        for name, kind, attribute in (
            ("ge", annotated_types.Ge, "ge"),
            ("le", annotated_types.Le, "le"),
            ("min_length", annotated_types.MinLen, "min_length"),
            ("max_length", annotated_types.MaxLen, "max_length"),
        ):
            if isinstance(rule, kind):
                limits[name] = getattr(rule, attribute)
    return typing.Annotated[base, msgspec.Meta(**limits)] if limits else base


def _type(name: str, annotation: Any, metadata: list[Any]) -> Any:
    """Return msgspec's type for a field; patterns are left out, see `_certain`."""
    if name == "tags":
        text = typing.Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
        value = typing.Annotated[str, msgspec.Meta(max_length=256)]
        return _constrained(dict[text, value], metadata)
    if name == "metadata":
        return msgspec.Raw
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (part for part in typing.get_args(annotation) if part is not type(None))
        return _type(name, inner, metadata) | None
    if origin is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        spread = [rule for extra in more for rule in getattr(extra, "metadata", [extra])]
        return _type(name, inner, [*metadata, *spread])
    if origin is typing.Literal:
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return typing.Literal[tuple(member.value for member in annotation)]
    if annotation is Decimal:
        # Only absent, or null where the model takes it: msgspec and pydantic read decimals differently.
        return _NEVER
    if annotation in (int, str, float, bool):
        return _constrained(annotation, metadata)
    # msgspec rounds the seventh digit of a second, pydantic cuts it off: `read_moments` reads the text.
    return typing.Annotated[str, msgspec.Meta(min_length=20, max_length=35)]


def _default(name: str, required: bool, default: Any) -> Any:
    if name == "event_id" or required:
        return msgspec.NODEFAULT
    if name == "total_tokens":
        return None
    if name == "tags":
        return msgspec.field(default_factory=dict)
    if name == "metadata":
        return _NO_METADATA
    if isinstance(default, enum.Enum):
        return default.value
    return default


def _struct() -> Any:
    fields = []
    for name, field in UsageEvent.model_fields.items():
        kind = _type(name, field.annotation, field.metadata)
        if name == "total_tokens":
            kind = typing.Annotated[int, msgspec.Meta(ge=0, le=2 * MAX_COUNT)]
        default = _default(name, field.is_required(), field.default)
        fields.append((name, kind) if default is msgspec.NODEFAULT else (name, kind, default))
    # What msgspec skips it does not read, so an unknown field is the model's business.
    return msgspec.defstruct("Decoded", fields, gc=False, kw_only=True, forbid_unknown_fields=True)


# The fast form of UsageEvent: the same fields; `metadata` is raw JSON, times and enums are their text.
_decoder = msgspec.json.Decoder(_struct())


class Decoding(NamedTuple):
    """What became of records: the events, the place of each one's record, and by place why others hold none.

    A reason is for the person who mends the producer.
    """

    events: EventColumns
    places: list[int]
    refused: dict[int, str]


def decode(values: Sequence[bytes | None]) -> Decoding:
    """Return the events that the values of Kafka records hold."""
    events = [_decoded(value) for value in values]
    refused = {}
    asked = set()
    unsure = [place for place, event in enumerate(events) if event is None]
    while True:
        for place in unsure:
            try:
                events[place] = _from_model(UsageEvent.from_wire(values[place]))
            except InvalidEventError as error:
                events[place] = None
                refused[place] = str(error)
        asked.update(unsure)
        places = [place for place, event in enumerate(events) if event is not None]
        columns, is_certain = _columns([event for event in events if event is not None])
        unsure = [places[row] for row in np.flatnonzero(~is_certain).tolist() if places[row] not in asked]
        if not unsure:
            return Decoding(columns, places, refused)


def _decoded(value: bytes | None) -> tuple[Any, ...] | None:
    """Return the values of the fields; None for what only the model can judge."""
    # Patterns forbid control characters only, which JSON can hold only behind a backslash.
    if value is None or b"\\" in value:
        return None
    try:
        return msgspec.structs.astuple(_decoder.decode(value))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _columns(events: Sequence[tuple[Any, ...]]) -> tuple[EventColumns, Any]:
    """Return columns, and for each event whether the model would surely accept it, and read the same values."""
    if not events:
        return EventColumns(dict.fromkeys(FIELDS, ()), np.zeros(0, np.int64)), np.zeros(0, bool)
    values: dict[str, Sequence[Any]] = dict(zip(FIELDS, zip(*events, strict=True), strict=True))
    names = {name: canonical_provider(name) for name in set(values["provider"])}
    values["provider"] = [names[name] for name in values["provider"]]
    moments = read_moments(values["timestamp"])
    is_certain = moments != UNSURE
    if values["provider_created"].count(None) < len(events):
        values["provider_created"] = created = list(values["provider_created"])
        told = [row for row, text in enumerate(created) if text is not None]
        answered = read_moments([created[row] for row in told])
        is_certain[told] &= answered != UNSURE
        for row, moment in zip(told, answered.tolist(), strict=True):
            created[row] = moment
    columns = EventColumns(values, moments)
    totals = pa.array(values["total_tokens"], pa.int64())
    is_certain &= pc.equal(totals, columns.array("total_tokens")).fill_null(True).to_numpy(False)
    for smaller, larger in CONTAINED:
        is_certain &= sum(columns.integers(name) for name in smaller) <= columns.integers(larger)
    if values["metadata"].count(_NO_METADATA) < len(events):
        is_certain &= [raw is _NO_METADATA or _is_sure_metadata(bytes(raw)) for raw in values["metadata"]]
    return columns, is_certain


def _is_sure_metadata(raw: bytes) -> bool:
    return (
        len(raw) <= _SURE_METADATA_BYTES
        and raw.startswith(b"{")
        and raw.isascii()
        and raw.count(b"{") + raw.count(b"[") <= _SURE_DEPTH
        and not _UNSURE_NUMBER.search(raw)
    )


def _from_model(event: UsageEvent) -> tuple[Any, ...]:
    values = {name: getattr(event, name) for name in FIELDS}
    values["metadata"] = msgspec.Raw(to_json(event.metadata, inf_nan_mode="null"))
    values["api_operation"] = event.api_operation.value
    values["status"] = event.status.value
    for name in ("timestamp", "provider_created"):
        if values[name] is not None:
            values[name] = values[name].isoformat().replace("+00:00", "Z")
    return tuple(values.values())
