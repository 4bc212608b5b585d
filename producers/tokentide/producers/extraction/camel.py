"""Google's answers by the names of its REST API: the Python SDK's model_dump() spells them in snake_case."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

__all__ = ["camel", "camels"]


def camel(value: Any) -> dict[str, Any]:
    """Return the mapping with its names in camelCase, as far as they are not our own; empty if it is none."""
    if not isinstance(value, Mapping):
        return {}
    return {_name(name): each for name, each in value.items()}


def camels(value: Any) -> list[dict[str, Any]]:
    """Return the mappings of a list, with their names in camelCase."""
    return [camel(each) for each in (value if isinstance(value, list) else ()) if isinstance(each, Mapping)]


@lru_cache(maxsize=1024)
def _name(name: str) -> str:
    return name if name.startswith("_") else re.sub("_([a-z])", lambda match: match[1].upper(), name)
