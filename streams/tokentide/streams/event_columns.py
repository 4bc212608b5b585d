"""Events as columns: each field of many events as one tuple, and as one Arrow array of PRICED_SCHEMA."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, compress
from typing import Any, Self

import numpy as np
import pyarrow as pa

from tokentide.schemas.columns import PRICED_SCHEMA

__all__ = ["EventColumns"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {field.name: field.type for field in PRICED_SCHEMA}
_FLOATS = {name for name, kind in _KINDS.items() if pa.types.is_floating(kind)}
# Of so many events it is worth a look whether they all say the same.
_MANY = 50


class EventColumns:
    """The columns of some events, by the names of their fields.

    The times of the events are integers: Unix microseconds. The totals of tokens are those that the counts give.
    """

    def __init__(self, values: Mapping[str, Sequence[Any]], microseconds: Any) -> None:
        self.values = values
        self.microseconds = microseconds
        self._arrays: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.microseconds)

    def moment(self, place: int) -> datetime:
        """Return the time of one event."""
        return _EPOCH + timedelta(microseconds=int(self.microseconds[place]))

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
        values = {name: tuple(compress(column, chosen)) for name, column in self.values.items()}
        return type(self)(values, self.microseconds[is_kept])

    def _array(self, name: str) -> Any:
        kind = _KINDS[name]
        if name == "timestamp":
            return pa.array(self.microseconds).cast(kind)
        if name == "total_tokens":
            return pa.array(self.integers("input_tokens") + self.integers("output_tokens"))
        values = self.values[name]
        if name == "tags":
            return _tags(values)
        first = values[0]
        # Most columns hold one value. Zero and minus zero are equal as well, so floats are looked at one by one.
        is_one = (
            len(values) >= _MANY
            and (first is None or name not in _FLOATS)
            and first == values[-1]
            and values.count(first) == len(values)
        )
        if name == "metadata":
            values = [bytes(raw).decode() for raw in (values[:1] if is_one else values)]
        return pa.repeat(pa.scalar(values[0], kind), len(self)) if is_one else pa.array(values, kind)


def _tags(tags: Sequence[dict[str, str]]) -> Any:
    ends: Any = np.zeros(len(tags) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, tags), np.int32, len(tags)), out=ends[1:])
    names = pa.array(list(chain.from_iterable(tags)), pa.string())
    values = pa.array(list(chain.from_iterable(map(dict.values, tags))), pa.string())
    offsets: Any = pa.array(ends)
    return pa.MapArray.from_arrays(offsets, names, values)
