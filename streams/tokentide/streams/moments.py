"""Times of events, read from their text many at once, as pydantic reads them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokentide.schemas.usage import EARLIEST, LATEST

__all__ = ["UNSURE", "read_moments"]

UNSURE = 0
"""Stands for a time that only the model can judge; a time that is one lies behind it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST, _LATEST = ((moment - _EPOCH) // _MICROSECOND for moment in (EARLIEST, LATEST))
# fromisoformat also reads commas, ISO weeks and missing separators, and an hour 24: those are not sure.
_SURE = re.compile(
    r"\d{4}-\d\d-\d\dT(?!24)\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)", re.ASCII
)
# To prepare the reading of many takes as long as to read so many.
_MANY = 50
# What most producers send, and Arrow reads as fromisoformat does.
_PLAIN = r"^\d{4}-(?:0[1-9]|1[0-2])-[0-3]\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?Z$"


def read_moments(texts: Sequence[str]) -> Any:
    """Return the times in Unix microseconds, in a numpy array; UNSURE where only the model can tell."""
    moments = np.full(len(texts), UNSURE)
    is_read = _read_plain(texts, moments) if len(texts) >= _MANY else np.zeros(len(texts), bool)
    for place in np.flatnonzero(~is_read).tolist():
        moments[place] = _microseconds(texts[place])
    moments[(moments < _EARLIEST) | (moments >= _LATEST)] = UNSURE
    return moments


def _read_plain(texts: Sequence[str], moments: Any) -> Any:
    """Put in the times of plain texts; return which those are."""
    array = pa.array(texts, pa.string())
    is_plain = pc.match_substring_regex(array, _PLAIN).to_numpy(zero_copy_only=False)
    plain = array if is_plain.all() else array.filter(pa.array(is_plain))
    try:
        moments[is_plain] = plain.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:  # the 30th of February
        is_plain[:] = False
    return is_plain


def _microseconds(text: str) -> int:
    if not _SURE.fullmatch(text):
        return UNSURE
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
    except ValueError:
        return UNSURE
