"""What passes between the core and the families: the call, and what its answer says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from tokentide.producers.extraction.said import Said

__all__ = [
    "Call",
    "Family",
    "Reading",
    "at",
    "has_negative",
    "mapping_at",
    "moment",
    "money",
    "number",
    "numbers",
    "sum_of",
    "text_at",
]

_FAR = 10**18
"""No count is larger: what is, is cut to this, and so refused by the core."""
_NUMERIC = (int, float, Decimal, str)


class Call(NamedTuple):
    """What the caller knows: each may be unknown. The provider is canonical, the request is the call's body."""

    provider: str | None = None
    model: str | None = None
    api_operation: str | None = None
    request: Mapping[str, Any] = {}


@dataclass(slots=True)
class Reading:
    """What a provider said, as it said it.

    `counts` go by the names of UsageEvent and are inclusive; a count that is not there was not reported, and is
    estimated where the call is paid by tokens. `facts` are the other fields of UsageEvent, and `api_operation`
    and `provider` when the answer itself tells. `raw` is the provider's usage object, None without one.
    `total` is its own sum of input and output, when it has one with this meaning. `said` is what the model wrote.
    `is_estimate` says that the counts are the family's own guess, `is_doubtful` that one which is not among them
    was below zero.
    """

    counts: dict[str, int | Decimal] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] | None = None
    total: int | Decimal | None = None
    said: Said = field(default_factory=Said)
    is_estimate: bool = False
    is_doubtful: bool = False


class Family(NamedTuple):
    """How answers of one form are read; the provider and operation are those meant when nobody names others."""

    read: Callable[[Mapping[str, Any], Call], Reading]
    fold: Callable[[dict[str, Any], Mapping[str, Any]], None]
    provider: str
    api_operation: str


def at(value: Any, *path: str) -> Any:
    """Return what lies at the path of keys, or None."""
    for key in path:
        if not isinstance(value, dict) and not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def mapping_at(value: Any, *path: str) -> Mapping[str, Any]:
    """Return the mapping at the path, an empty one when there is none."""
    found = at(value, *path)
    if type(found) is dict:
        return found
    return found if isinstance(found, Mapping) else {}


def text_at(value: Any, *path: str) -> str | None:
    """Return the text at the path, None when it is none or empty."""
    found = at(value, *path)
    return found if isinstance(found, str) and found else None


def number(value: Any) -> int | Decimal | None:
    """Return the number, whole where it is whole, from an int, float, Decimal or numeric text; else None."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return max(-_FAR, min(value, _FAR))
    exact = money(value)
    if exact is None:
        return None
    exact = max(Decimal(-_FAR), min(exact, Decimal(_FAR)))
    return int(exact) if exact == exact.to_integral_value() else exact


def numbers(value: Mapping[str, Any], names: Mapping[str, tuple[str, ...]]) -> dict[str, int | Decimal]:
    """Return the counts that are there, by name; `names` says at which path each lies."""
    counts = {}
    for name, path in names.items():
        count = number(at(value, *path))
        if count is not None:
            counts[name] = count
    return counts


def sum_of(*parts: int | Decimal | None) -> int | Decimal:
    """Return the sum of the parts that are there; one below zero counts as zero, and takes from no other."""
    return sum((part for part in parts if part is not None and part > 0), start=0)


def has_negative(usage: Mapping[str, Any]) -> bool:
    """Whether one of the numbers is below zero."""
    return any((count := number(value)) is not None and count < 0 for value in usage.values())


def money(value: Any) -> Decimal | None:
    """Return exactly the number that stands in the JSON: a float becomes the shortest text that means it."""
    if value is None or isinstance(value, bool) or not isinstance(value, _NUMERIC):
        return None
    if isinstance(value, str) and len(value) > 64:
        return None
    try:
        exact = Decimal(value if isinstance(value, int | Decimal) else str(value).strip())
    except (InvalidOperation, ValueError):
        return None
    return exact if exact.is_finite() else None


def moment(value: Any) -> datetime | None:
    """Return the time (UTC) that Unix seconds or ISO 8601 text name, or None."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else None
    try:
        if isinstance(value, str) and not value.isdigit():
            parsed = datetime.fromisoformat(value)
            return parsed.astimezone(UTC) if parsed.tzinfo else None
        seconds = number(value)
        return None if seconds is None else datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None
