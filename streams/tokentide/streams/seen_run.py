"""Ids of one day in one file: sorted, never changed, and asked in batches."""

import mmap
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import numpy as np

__all__ = ["Digests", "Run", "merged", "sorted_rows", "write_run"]

_ROW_BYTES = 24
_IDS_A_BUCKET = 128
_MERGED_AT_ONCE = 65_536
_HALF = np.uint64(32)
# A copy of it is made in a fifth of the time that a new one takes.
_HASH = blake2b(digest_size=16)

# Rows of three columns of 64 bits: both halves of the digest, the offset.
_Rows = np.ndarray[Any, np.dtype[np.uint64]]
_Column = np.ndarray[Any, np.dtype[np.uint64]]


class Digests:
    """The 128-bit digests of some ids, with what every run asks of them worked out once.

    Two of 80 million different ids share a digest with a probability of 10^-23.
    """

    def __init__(self, values: Sequence[bytes]) -> None:
        self.values = values
        self.prefixes, self.masks = _spread(np.frombuffer(b"".join(values), "<u8").reshape(-1, 2))

    @classmethod
    def of(cls, ids: Iterable[str]) -> Self:
        """Return the digests of ids: any two strings have different bytes, also those that are no valid Unicode."""
        return cls([_digest(text.encode("utf-8", "surrogatepass")) for text in ids])


class Run:
    """A file of ids and the offsets of their first records.

    In front of the rows stands a filter of 12 bits an id: what it does not know is not in the file, and what it
    knows (one in a hundred by chance) is looked up in the rows, so an answer is never a guess. Only the filter is
    mapped into memory; the kernel may take its pages back.
    """

    def __init__(self, path: Path, day: int, level: int, count: int) -> None:
        """Open the file; raises OSError or ValueError when it is not there or not whole."""
        self.path, self.day, self.level, self.count = path, day, level, count
        words, buckets = _words(count), _buckets(count)
        self._rows_at = 8 * (words + buckets + 1)
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        if os.fstat(self._file).st_size != self._rows_at + _ROW_BYTES * count:
            raise ValueError(f"{path} is not whole")
        head = mmap.mmap(self._file, self._rows_at, prot=mmap.PROT_READ)
        self._filter: _Column = np.frombuffer(head, "<u8", words)
        self._starts: _Column = np.frombuffer(head, "<u8", buckets + 1, 8 * words)

    def find(self, digests: Digests) -> Iterator[tuple[int, int]]:
        """Yield the place of each digest that is here, with its offset."""
        known = self._filter[_place(digests.prefixes, len(self._filter))]
        (places,) = np.nonzero((known & digests.masks) == digests.masks)
        if not len(places):
            return
        buckets = _place(digests.prefixes[places], len(self._starts) - 1)
        starts, ends = self._starts[buckets].tolist(), self._starts[buckets + np.uint64(1)].tolist()
        for place, start, end in zip(places.tolist(), starts, ends, strict=True):
            rows = os.pread(self._file, (end - start) * _ROW_BYTES, self._rows_at + start * _ROW_BYTES)
            at = rows.find(digests.values[place])
            while at >= 0 and at % _ROW_BYTES:
                at = rows.find(digests.values[place], at + 1)
            if at >= 0:
                yield place, int.from_bytes(rows[at + 16 : at + _ROW_BYTES], "little")

    def rows(self, first: int, behind: int) -> _Rows:
        """Return the rows whose 32-bit prefix lies between."""
        count = len(self._starts) - 1
        start = int(self._starts[(first * count) >> 32])
        end = int(self._starts[((behind - 1) * count >> 32) + 1])
        raw = os.pread(self._file, (end - start) * _ROW_BYTES, self._rows_at + start * _ROW_BYTES)
        rows: _Rows = np.frombuffer(raw, "<u8").reshape(-1, 3)
        prefixes = rows[:, 0] >> _HALF
        return rows[(prefixes >= first) & (prefixes < behind)]


def sorted_rows(ids: Mapping[bytes, int]) -> _Rows:
    """Return digests and offsets as rows for a run."""
    rows = np.empty((len(ids), 3), "<u8")
    rows[:, :2] = np.frombuffer(b"".join(ids), "<u8").reshape(-1, 2)
    rows[:, 2] = np.fromiter(ids.values(), "<u8", len(ids))
    return rows[np.argsort(rows[:, 0], kind="stable")]


def merged(runs: Sequence[Run]) -> Iterator[_Rows]:
    """Yield the rows of all runs in order, some 65,000 at a time."""
    parts = max(1, sum(run.count for run in runs) // _MERGED_AT_ONCE)
    borders = [(part << 32) // parts for part in range(parts + 1)]
    for part in range(parts):
        rows = np.concatenate([run.rows(borders[part], borders[part + 1]) for run in runs])
        yield rows[np.argsort(rows[:, 0], kind="stable")]


def write_run(path: Path, count: int, blocks: Iterable[_Rows]) -> None:
    """Write `count` sorted rows as a run, and return when the disk has them."""
    known = np.zeros(_words(count), "<u8")
    starts = np.zeros(_buckets(count) + 1, "<u8")
    with path.open("wb") as file:
        file.seek(8 * (len(known) + len(starts)))
        for block in blocks:
            prefixes, masks = _spread(block[:, :2])
            np.bitwise_or.at(known, _place(prefixes, len(known)), masks)
            held = np.bincount(_place(prefixes, len(starts) - 1).astype(np.int64), minlength=len(starts) - 1)
            starts[1:] += held.astype("<u8")
            file.write(block.data)
        file.seek(0)
        file.write(known.data)
        file.write(np.cumsum(starts, dtype="<u8").data)
        file.flush()
        os.fsync(file.fileno())


def _digest(text: bytes) -> bytes:
    hashing = _HASH.copy()
    hashing.update(text)
    return hashing.digest()


def _words(count: int) -> int:
    """Return how many words of 64 bits the filter has; each id sets four bits of one word."""
    return count * 3 // 16 + 1


def _buckets(count: int) -> int:
    return count // _IDS_A_BUCKET + 1


def _spread(halves: _Rows) -> tuple[_Column, _Column]:
    """Return the first 32 bits of digests, by which all is ordered, and the bits of the filter to be set."""
    low = halves[:, 1]
    masks = np.zeros(len(low), "<u8")
    for shift in (0, 6, 12, 18):
        masks |= np.uint64(1) << ((low >> np.uint64(shift)) & np.uint64(63))
    return halves[:, 0] >> _HALF, masks


def _place(prefixes: _Column, count: int) -> _Column:
    """Return which of `count` equal parts each prefix falls into."""
    return (prefixes * np.uint64(count)) >> _HALF
