"""Decoding of usage events at msgspec's speed, under the contract of the pydantic model.

The struct is derived from UsageEvent. It accepts only what UsageEvent surely accepts; everything else is
asked of UsageEvent itself, which accepts it or gives the reason. So both always agree.
"""

import enum
import operator
import re
import types
import typing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import annotated_types
import msgspec
from pydantic_core import to_json

from tokentide.schemas import UsageEvent
from tokentide.schemas.provider import canonical_provider
from tokentide.schemas.usage import CONTAINED, EARLIEST, LATEST

__all__ = ["FIELDS", "Decoded", "decode"]

FIELDS = tuple(UsageEvent.model_fields)
"""The fields of an event, in the order of the model."""

# A raw length that no re-encoding can push over the model's limit on metadata.
_SURE_METADATA_BYTES = 2048
# JSON that msgspec skips unread, but pydantic may refuse or read as another value: deep nesting, long numbers.
_SURE_DEPTH = 64
_UNSURE_NUMBER = re.compile(rb"\d[eE]|\d{16}")
_NO_METADATA = msgspec.Raw(b"{}")
# fromisoformat also reads commas, ISO weeks and missing separators, and an hour 24: those are not sure.
_SURE_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\dT(?!24)\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)", re.ASCII
)


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
        # Only absent or null: msgspec and pydantic read decimals differently.
        return types.NoneType
    if annotation in (int, str, float, bool):
        return _constrained(annotation, metadata)
    # msgspec rounds the seventh digit of a second, pydantic cuts it off: `_moment` reads the text.
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


def _struct() -> type[Any]:
    fields = []
    for name, field in UsageEvent.model_fields.items():
        kind = _type(name, field.annotation, field.metadata)
        if name == "total_tokens":
            kind = int
        default = _default(name, field.is_required(), field.default)
        fields.append((name, kind) if default is msgspec.NODEFAULT else (name, kind, default))
    # What msgspec skips it does not read, so an unknown field is the model's business.
    return msgspec.defstruct("Decoded", fields, gc=False, kw_only=True, forbid_unknown_fields=True)


Decoded: Any = _struct()
"""The fast form of UsageEvent: the same fields; `metadata` is raw JSON, enums are their values."""

_decoder = msgspec.json.Decoder(Decoded)


def decode(value: bytes | None) -> Any:
    """Return the event of a Kafka record as a Decoded.

    Raises InvalidEventError, with the reason for the person who mends the producer.
    """
    if value is not None and b"\\" not in value:
        try:
            event = _decoder.decode(value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        else:
            if _certain(event):
                return event
    return _from_model(UsageEvent.from_wire(value))


def _certain(event: Any) -> bool:
    """Whether the model would surely accept the event, and read the same values.

    Patterns forbid control characters only, which JSON can hold only behind a backslash: such records never
    come here.
    """
    if event.total_tokens != event.input_tokens + event.output_tokens:
        if event.total_tokens is not None:
            return False
        event.total_tokens = event.input_tokens + event.output_tokens
    if any(_inner_counts(event)) and not _counts_agree(event):
        return False
    if event.metadata is not _NO_METADATA and not _is_sure_metadata(bytes(event.metadata)):
        return False
    event.provider = canonical_provider(event.provider)
    event.timestamp = _moment(event.timestamp)
    if event.timestamp is None or event.audio_seconds is None:
        return False
    if event.provider_created is not None:
        event.provider_created = _moment(event.provider_created)
        return event.provider_created is not None
    return True


_inner_counts = operator.attrgetter(*dict.fromkeys(name for smaller, _ in CONTAINED for name in smaller))


def _counts_agree(event: Any) -> bool:
    for smaller, larger in CONTAINED:
        inside = 0
        for name in smaller:
            inside += getattr(event, name)
        if inside > getattr(event, larger):
            return False
    return True


def _is_sure_metadata(raw: bytes) -> bool:
    return (
        len(raw) <= _SURE_METADATA_BYTES
        and raw.startswith(b"{")
        and raw.isascii()
        and raw.count(b"{") + raw.count(b"[") <= _SURE_DEPTH
        and not _UNSURE_NUMBER.search(raw)
    )


def _moment(text: str) -> datetime | None:
    """Return the moment, or None when only the model can tell whether the text is one."""
    if not _SURE_MOMENT.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not EARLIEST <= moment < LATEST:
        return None
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def _from_model(event: UsageEvent) -> Any:
    values = {name: getattr(event, name) for name in FIELDS}
    values["metadata"] = msgspec.Raw(to_json(event.metadata, inf_nan_mode="null"))
    values["api_operation"] = event.api_operation.value
    values["status"] = event.status.value
    return Decoded(**values)
