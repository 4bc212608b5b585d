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
_EVENT_BYTES = 1 << 20
_LEAVES = frozenset((str, int, float, bool, Decimal, type(None)))
# As many objects as the answer has tokens, times twenty, and no usage in them.
_LEFT_OUT = frozenset(("logprobs", "logprobs_result", "logprobsResult"))


def plain(value: Any) -> Any:
    """Return the object as dicts, lists, texts and numbers; never raises.

    Fields of pydantic models go by their alias, the name that the provider's JSON has. Vectors (lists of floats)
    and bytes become empty, except bytes of JSON (Bedrock's events), which become text; probabilities of tokens and
    what is too deep or too much become None. Lists come last, so that much content does not hide usage behind it.
    """
    return _Walk().walk(value, _DEPTH)


class _Walk:
    def __init__(self) -> None:
        self._left = _NODES

    def walk(self, value: Any, depth: int) -> Any:
        kind: type = type(value)
        if kind in _LEAVES:
            return value
        self._left -= 1
        if depth <= 0 or self._left <= 0:
            return None
        try:
            if kind is dict:
                return self._dict(value, depth - 1)
            if kind is list:
                return self._list(value, depth - 1)
            if _aliases(kind) is not None:
                return self._dict(_fields_of_model(value), depth - 1)
            return self._other(value, depth - 1)
        except Exception:  # what a property or a half-built object of an SDK raises is not ours to know
            return None

    def _dict(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lists: dict[str, Any] = {}
        for key, each in value.items():
            name = key if type(key) is str else str(key)
            kind: type = type(each)
            if kind in _LEAVES:
                found[name] = each
            elif name in _LEFT_OUT:
                found[name] = None
            elif kind is list:
                found[name] = lists[name] = each
            else:
                found[name] = self.walk(each, depth)
        for name, each in lists.items():
            found[name] = self.walk(each, depth)
        return found

    def _list(self, value: list[Any], depth: int) -> list[Any]:
        if value and type(value[0]) is float:
            return []
        return [each if type(each) in _LEAVES else self.walk(each, depth) for each in value]

    def _other(self, value: Any, depth: int) -> Any:
        if isinstance(value, Enum):
            return self.walk(value.value, depth)
        if isinstance(value, str | int | float | Decimal | date):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return _json_text(value)
        if isinstance(value, Mapping):
            return self._dict(value, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._list(list(value), depth)
        if isinstance(value, type) or callable(value):
            return None
        return self._dict(_attributes(value), depth)


def _json_text(value: bytes | bytearray | memoryview) -> str:
    return bytes(value).decode() if len(value) <= _EVENT_BYTES and bytes(value[:1]) == b"{" else ""


def _fields_of_model(value: Any) -> dict[str, Any]:
    """Return what a pydantic model was given, by the names in JSON, and its defaults apart from None."""
    kind: type = type(value)
    aliases = _aliases(kind) or {}
    said = value.__pydantic_fields_set__
    found = {
        aliases.get(name, name): each
        for name, each in value.__dict__.items()
        if name[0] != "_" and (each is not None or name in said)
    }
    hidden = (value.__pydantic_private__ or {}).get("_hidden_params")
    if isinstance(hidden, dict):  # of LiteLLM: only there stands who answered
        found["hidden_params"] = {"custom_llm_provider": hidden.get("custom_llm_provider")}
    extra = value.__pydantic_extra__
    return {**found, **extra} if extra else found


def _attributes(value: Any) -> dict[str, Any]:
    """Return the public attributes of any other object."""
    if dataclasses.is_dataclass(value):
        names = [each.name for each in dataclasses.fields(value)]
    elif hasattr(value, "__dict__"):
        names = list(vars(value))
    else:
        names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(value, name, None) for name in names if not name.startswith("_")}


@lru_cache(maxsize=512)
def _aliases(kind: type) -> dict[str, str] | None:
    """Return the fields of a pydantic model that JSON names otherwise; None for other classes."""
    fields = getattr(kind, "__pydantic_fields__", None)
    if not isinstance(fields, dict):
        return None
    aliases = {}
    for name, field in fields.items():
        alias = getattr(field, "serialization_alias", None) or getattr(field, "alias", None)
        if isinstance(alias, str):
            aliases[name] = alias
    return aliases
