"""Events as columns: each field of many events as one sequence, and as one Arrow array of PRICED_SCHEMA."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, compress
from typing import Any, Self

import numpy as np
import pyarrow as pa

from tokentide.schemas.columns import PRICED_SCHEMA
from tokentide.schemas.usage_struct import FIELDS, absent_value

__all__ = ["EventColumns"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {field.name: field.type for field in PRICED_SCHEMA}
_FLOATS = {name for name, kind in _KINDS.items() if pa.types.is_floating(kind)}
# Of so many events it is worth a look whether they all say the same.
_MANY = 50


# The column of metadata is JSON.
_ABSENT: dict[str, Any] = {name: "{}" if name == "metadata" else absent_value(name) for name in FIELDS}
# Of the fields that no event has: each as long as the longest that was asked for.
_constants: dict[str, Any] = {}


class EventColumns:
    """The columns of some events, by the names of their fields; those that no event has may be left out.

    The times of the events are integers: Unix microseconds. The totals of tokens are those that the counts give.
    """

    def __init__(self, values: Mapping[str, Sequence[Any]], microseconds: Any) -> None:
        self._values = values
        self.microseconds = microseconds
        self._arrays: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.microseconds)

    def moment(self, place: int) -> datetime:
        """Return the time of one event."""
        return _EPOCH + timedelta(microseconds=int(self.microseconds[place]))

    def values(self, name: str) -> Sequence[Any]:
        """Return a column as Python's values."""
        values = self._values.get(name)
        return [_ABSENT[name]] * len(self) if values is None else values

    def value(self, name: str, place: int) -> Any:
        """Return one value."""
        values = self._values.get(name)
        return _ABSENT[name] if values is None else values[place]

    def array(self, name: str) -> Any:
        """Return a column for Arrow; there must be an event."""
        array = self._arrays.get(name)
        if array is None:
            array = self._arrays[name] = self._array(name)
        return array

    def integers(self, name: str) -> Any:
        """Return a column of counts for numpy."""
        return self.array(name).to_numpy()

    def kept(self, is_kept: Any) -> Self:
        """Return the columns of the events that are marked so."""
        if is_kept.all():
            return self
        chosen = is_kept.tolist()
        values = {name: tuple(compress(column, chosen)) for name, column in self._values.items()}
        return type(self)(values, self.microseconds[is_kept])

    def _array(self, name: str) -> Any:
        kind = _KINDS[name]
        if name == "timestamp":
            return pa.array(self.microseconds).cast(kind)
        if name == "total_tokens":
            return pa.array(self.integers("input_tokens") + self.integers("output_tokens"))
        values = self._values.get(name)
        if values is None:
            return _constant(name, len(self))
        if name == "tags":
            return _tags(values)
        first = values[0]
        # Many columns hold one value. Zero and minus zero are equal as well, so floats are looked at one by one.
        is_one = (
            len(values) >= _MANY
            and (first is None or name not in _FLOATS)
            and first == values[-1]
            and values.count(first) == len(values)
        )
        return pa.repeat(pa.scalar(first, kind), len(self)) if is_one else pa.array(values, kind)


def _constant(name: str, length: int) -> Any:
    known = _constants.get(name)
    if known is None or len(known) < length:
        only = _tags([_ABSENT[name]]) if name == "tags" else pa.array([_ABSENT[name]], _KINDS[name])
        known = _constants[name] = pa.repeat(only[0], length)
    return known.slice(0, length)


def _tags(tags: Sequence[Mapping[str, str]]) -> Any:
    """Return a column of tags; those that share an object are looked at once."""
    by_id = {id(each): each for each in tags}
    distinct = list(by_id.values())
    ends: Any = np.zeros(len(distinct) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, distinct), np.int32, len(distinct)), out=ends[1:])
    names = pa.array(list(chain.from_iterable(distinct)), pa.string())
    values = pa.array(list(chain.from_iterable(each.values() for each in distinct)), pa.string())
    offsets: Any = pa.array(ends)
    column = pa.MapArray.from_arrays(offsets, names, values)
    if len(distinct) == len(tags):
        return column
    places = {number: place for place, number in enumerate(by_id)}
    return column.take(pa.array([places[id(each)] for each in tags]))
