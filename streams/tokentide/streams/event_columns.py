"""Events as columns: each field of many events as one tuple, and as one Arrow array of PRICED_SCHEMA."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from tokentide.schemas.columns import PRICED_SCHEMA
from tokentide.streams.decode import FIELDS

__all__ = ["EventColumns"]


class EventColumns:
    """The columns of one or more events that `decode` returned."""

    def __init__(self, events: Sequence[Any]) -> None:
        self.size = len(events)
        self.values: dict[str, tuple[Any, ...]] = dict(
            zip(FIELDS, zip(*map(msgspec.structs.astuple, events), strict=True), strict=True)
        )
        self.arrays: dict[str, Any] = {name: _array(name, values) for name, values in self.values.items()}

    def microseconds(self) -> Any:
        """Return the event times in Unix microseconds, for numpy."""
        return self.arrays["timestamp"].cast(pa.int64()).to_numpy()


def _array(name: str, values: tuple[Any, ...]) -> Any:
    if name == "tags":
        return _tags(values)
    kind = PRICED_SCHEMA.field(name).type
    first = values[0]
    # Most columns hold one value. Zero and minus zero are equal as well, so floats are looked at one by one.
    if (
        (first is None or not pa.types.is_floating(kind))
        and first == values[-1]
        and values.count(first) == len(values)
    ):
        return pa.repeat(pa.scalar(_plain(name, first), kind), len(values))
    if name == "metadata":
        return pa.array([_plain(name, raw) for raw in values], kind)
    return pa.array(values, kind)


def _plain(name: str, value: Any) -> Any:
    return bytes(value).decode() if name == "metadata" else value


def _tags(tags: tuple[dict[str, str], ...]) -> Any:
    ends = np.zeros(len(tags) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, tags), np.int32, len(tags)), out=ends[1:])
    names = pa.array(list(chain.from_iterable(tags)), pa.string())
    values = pa.array(list(chain.from_iterable(map(dict.values, tags))), pa.string())
    return pa.MapArray.from_arrays(pa.array(ends), names, values)
