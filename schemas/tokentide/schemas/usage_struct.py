"""UsageEvent as a msgspec struct, for where the model is too slow.

It is derived from the model, and accepts only what the model surely accepts; whoever uses it asks the model about
everything else. So both always agree.
"""

import enum
import types
import typing
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

import annotated_types
import msgspec

from tokentide.schemas.usage import MAX_COUNT, UsageEvent

__all__ = ["FIELDS", "absent_value", "field_type", "usage_struct"]

FIELDS = tuple(UsageEvent.model_fields)
"""The fields of an event, in the order of the model."""

# No number: a field that is there at all.
_NEVER: Any = typing.Annotated[int, msgspec.Meta(ge=1, le=0)]


def usage_struct(
    name: str,
    *,
    moment: Any,
    special: Mapping[str, tuple[Any, Any]],
    required: frozenset[str],
    names: Collection[str] = FIELDS,
) -> Any:
    """Return a struct with the fields of UsageEvent, or with those of `names` only.

    `moment` is the type of times, `special` has type and default of fields that are to be read in another way;
    `required` are fields that must be there though the model has a default for them. Left to the caller: patterns,
    the range of times, names of providers, what counts say of each other, the size of the metadata. Decimals may only
    be absent, for msgspec and pydantic read them differently. Enums are text; `total_tokens` is None when absent.
    """
    fields: list[Any] = []
    for field_name, field in UsageEvent.model_fields.items():
        if field_name not in names:
            continue
        if field_name in special:
            fields.append((field_name, *special[field_name]))
            continue
        if field_name == "total_tokens":
            kind: Any = typing.Annotated[int, msgspec.Meta(ge=0, le=2 * MAX_COUNT)]
        else:
            kind = field_type(field_name, moment)
        if field.is_required() or field_name in required:
            fields.append((field_name, kind))
        else:
            default = absent_value(field_name)
            if isinstance(default, dict):
                default = msgspec.field(default_factory=dict)
            fields.append((field_name, kind, default))
    # What msgspec skips it does not read, so an unknown field is the model's business.
    return msgspec.defstruct(
        name, fields, gc=False, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
    )


def absent_value(name: str) -> Any:
    """Return what an event holds that does not have the field; enums are text, `total_tokens` is None."""
    if name == "total_tokens":
        return None
    if name in ("tags", "metadata"):
        return {}
    default = UsageEvent.model_fields[name].default
    return default.value if isinstance(default, enum.Enum) else default


def field_type(name: str, moment: Any = None) -> Any:
    """Return msgspec's type for a field of UsageEvent; `moment` is that of times."""
    field = UsageEvent.model_fields[name]
    return _type(name, field.annotation, field.metadata, moment)


def _type(name: str, annotation: Any, rules: list[Any], moment: Any) -> Any:
    """Return msgspec's type for a field."""
    if name == "tags":
        text = typing.Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
        value = typing.Annotated[str, msgspec.Meta(max_length=256)]
        return _constrained(dict[text, value], rules)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (part for part in typing.get_args(annotation) if part is not type(None))
        return _type(name, inner, rules, moment) | None
    if origin is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        spread = [rule for extra in more for rule in getattr(extra, "metadata", [extra])]
        return _type(name, inner, [*rules, *spread], moment)
    if origin is typing.Literal:
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return typing.Literal[tuple(member.value for member in annotation)]
    if annotation is Decimal:
        return _NEVER
    if annotation in (int, str, float, bool):
        return _constrained(annotation, rules)
    return moment


def _constrained(base: type, rules: list[Any]) -> Any:
    limits: dict[str, Any] = {}
    for rule in rules:
        for name, kind, attribute in (
            ("ge", annotated_types.Ge, "ge"),
            ("le", annotated_types.Le, "le"),
            ("min_length", annotated_types.MinLen, "min_length"),
            ("max_length", annotated_types.MaxLen, "max_length"),
        ):
            if isinstance(rule, kind):
                limits[name] = getattr(rule, attribute)
    return typing.Annotated[base, msgspec.Meta(**limits)] if limits else base
