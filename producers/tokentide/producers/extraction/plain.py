"""Objects of SDKs as plain dicts and lists: no SDK is imported for it, and none of their code runs."""

import dataclasses
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any

__all__ = ["plain"]

_DEPTH = 24
_NODES = 50_000
"""Objects in one answer; 2,048 embeddings are about 10,000."""


def plain(value: Any) -> Any:
    """Return the object as dicts, lists, texts and numbers; never raises.

    Fields of pydantic models go by their alias, the name that the provider's JSON has. Vectors (lists of floats)
    and bytes become empty, what is too deep or too much becomes None: usage is neither.
    """
    return _Walk().walk(value, _DEPTH)


class _Walk:
    def __init__(self) -> None:
        self._left = _NODES

    def walk(self, value: Any, depth: int) -> Any:
        if value is None or type(value) in (str, int, float, bool, Decimal):
            return value
        self._left -= 1
        if depth <= 0 or self._left <= 0:
            return None
        try:
            return self._walk(value, depth - 1)
        except Exception:  # what a property or a half-built object of an SDK raises is not ours to know
            return None

    def _walk(self, value: Any, depth: int) -> Any:
        if isinstance(value, Enum):
            return self.walk(value.value, depth)
        if isinstance(value, str | int | float | Decimal | date):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return ""
        if isinstance(value, Mapping):
            return {str(key): self.walk(each, depth) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            items = list(value)
            return [] if items and type(items[0]) is float else [self.walk(each, depth) for each in items]
        if isinstance(value, type) or callable(value):
            return None
        return {
            key: self.walk(each, depth) for key, each in _attributes(value).items() if not key.startswith("_")
        }


def _attributes(value: Any) -> dict[str, Any]:
    """Return the public attributes by the names that they have in JSON."""
    kind: type = type(value)
    aliases = _aliases(kind)
    found: dict[str, Any] = {}
    if dataclasses.is_dataclass(value):
        found = {each.name: getattr(value, each.name, None) for each in dataclasses.fields(value)}
    elif not hasattr(value, "__dict__"):
        slots = (name for base in kind.__mro__ for name in getattr(base, "__slots__", ()))
        found = {name: getattr(value, name, None) for name in slots if isinstance(name, str)}
    else:
        found = {aliases.get(name, name): each for name, each in vars(value).items()}
    extra = getattr(value, "__pydantic_extra__", None) if aliases is not _NO_ALIASES else None
    return {**found, **extra} if isinstance(extra, dict) else found


_NO_ALIASES: dict[str, str] = {}


@lru_cache(maxsize=512)
def _aliases(kind: type) -> dict[str, str]:
    """Return the fields of a pydantic model that JSON names otherwise; `_NO_ALIASES` itself for other classes."""
    fields = getattr(kind, "__pydantic_fields__", None)
    if not isinstance(fields, dict):
        return _NO_ALIASES
    aliases = {}
    for name, field in fields.items():
        alias = getattr(field, "serialization_alias", None) or getattr(field, "alias", None)
        if isinstance(alias, str):
            aliases[name] = alias
    return aliases
