"""Records of usage events as tuples: only of those fields that any of them has had so far.

An event has some 20 of 70 fields. To make up the other 50 for every record, and to find out of a whole column that it
holds nothing, costs more than to read those that are there.
"""

import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from tokentide.schemas.usage import UsageEvent
from tokentide.schemas.usage_struct import FIELDS, usage_struct

__all__ = ["NOTHING", "EventReader"]

NOTHING = msgspec.Raw(b"{}")
"""What stands for `tags` and `metadata` of a record without them; both are left as JSON."""

_Decode = Callable[[bytes], Any]
_Row = tuple[Any, ...]

# An id made up by the reader would make each reading another event.
_REQUIRED = frozenset(
    {"event_id", *(name for name, field in UsageEvent.model_fields.items() if field.is_required())}
)
# msgspec rounds the seventh digit of a second, pydantic cuts it off: `read_moments` reads the text.
_MOMENT: Any = typing.Annotated[str, msgspec.Meta(min_length=20, max_length=35)]
_NO_ROW = (msgspec.MsgspecError, ValueError, RecursionError)

_decode_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class EventReader:
    """Reads records, and learns which fields there are. For one thread."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        """The fields of a row, in the order of the model."""
        self._decode: _Decode
        self.learn(_REQUIRED)

    def learn(self, names: Iterable[str]) -> bool:
        """Let rows have these fields from now on; return whether they had not before."""
        known = {*self.names, *names}
        if len(known) == len(self.names):
            return False
        self.names = tuple(name for name in FIELDS if name in known)
        self._decode = _decoder(self.names)
        return True

    def read(self, values: Sequence[bytes | None]) -> list[_Row | None]:
        """Return a row for each record; None for what only the model can judge."""
        rows = self._read_plain(values)
        if rows is None:
            rows = [_row(self._decode, value) for value in values]
            unknown = [
                value for value, row in zip(values, rows, strict=True) if row is None and value is not None
            ]
            met: set[str] = set()
            for value in unknown:
                if _row(_decode_all, value) is not None:
                    met.update(_decode_keys(value))
            if self.learn(met):
                return self.read(values)
        return rows

    def _read_plain(self, values: Sequence[bytes | None]) -> list[_Row | None] | None:
        """Return the rows when nothing is unusual about any record."""
        try:
            if any([b"\\" in value for value in values]):  # type: ignore[operator]  # None is unusual
                return None
            return list(map(msgspec.structs.astuple, map(self._decode, values)))  # type: ignore[arg-type]
        except (*_NO_ROW, TypeError):
            return None


def _row(decode: _Decode, value: bytes | None) -> _Row | None:
    # Patterns forbid control characters only, which JSON can hold only behind a backslash.
    if value is None or b"\\" in value:
        return None
    try:
        return msgspec.structs.astuple(decode(value))
    except _NO_ROW:
        return None


def _decoder(names: Sequence[str]) -> _Decode:
    kind = usage_struct(
        "Decoded",
        moment=_MOMENT,
        special={name: (msgspec.Raw, NOTHING) for name in ("tags", "metadata")},
        required=_REQUIRED,
        names=names,
    )
    return msgspec.json.Decoder(kind).decode


_decode_all = _decoder(FIELDS)
