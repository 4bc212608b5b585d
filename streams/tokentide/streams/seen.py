"""Which event ids one partition of the events topic has held: the memory behind "counts once"."""

from collections.abc import Sequence

from tokentide.streams.seen_run import Digests
from tokentide.streams.seen_store import Mark, SeenStore

__all__ = ["SPILLED_IDS", "SeenIds"]

_DAY_MS = 86_400_000
SPILLED_IDS = 65_536

_Part = tuple[int, dict[bytes, int]]


class SeenIds:
    """The event ids of one partition and the offset of each one's first record.

    It remembers `window_days` by the time the record was produced; ids of older days are dropped whole. Time only
    goes forward here: a record that says it is older than the newest one is remembered like the newest one.

    The newest ids are in memory, about 150 bytes each; with a store the others are on disk. An id goes there only
    when the record of `usage.priced` that holds its row is delivered. If it went earlier, a crash could leave an id
    on disk whose event was never published, and a later meter that refuses that event would drop the next one of the
    id as a repeat of nothing. If it goes later, or never, nothing is lost: the store says up to which record of
    `usage.priced` it is complete, and the ids behind that are read from there. So the disk may lag, and never leads;
    that is why it is written in large steps, and not at every chunk.

    A record that comes again at the offset that is remembered is a replay, not a duplicate, and counts as new.
    """

    def __init__(
        self, window_days: int, store: SeenStore | None = None, spilled_ids: int = SPILLED_IDS
    ) -> None:
        """So many ids are worth a write to the store."""
        self._window_days = window_days
        self._spilled_ids = spilled_ids
        self._store = store
        self._recent: list[_Part] = [(-1, {})]
        self._aside: tuple[_Part, ...] = ()
        self._aside_mark: Mark | None = None
        if store is not None and store.runs:
            self._recent = [(max(run.day for run in store.runs), {})]

    def __len__(self) -> int:
        return self.in_memory + sum(run.count for run in (self._store.runs if self._store else ()))

    @property
    def in_memory(self) -> int:
        """How many ids are not on disk."""
        return sum(len(ids) for _, ids in (*self._aside, *self._recent))

    @property
    def files(self) -> int:
        """How many files of ids there are on disk."""
        return len(self._store.runs) if self._store else 0

    @property
    def is_full(self) -> bool:
        """Whether a `write` on its way should end before more is taken in: the disk is slower than the log."""
        return self._store is not None and self.in_memory > 4 * self._spilled_ids

    @property
    def newest_day(self) -> int:
        """The day, counted from 1970, that the newest record belongs to."""
        return self._recent[-1][0]

    def first_offsets(
        self, event_ids: Sequence[str], offsets: Sequence[int], timestamps: Sequence[int]
    ) -> list[int]:
        """Return for each id the offset of its first record, which is its own when the id is new; remember them.

        `timestamps` say when the records were produced, in Unix milliseconds. Between a first and a last record of
        several days ids are remembered for longer than the window, never for less.
        """
        if not event_ids:
            return []
        oldest = max(self.newest_day, timestamps[0] // _DAY_MS) - self._window_days
        # In this order: `write` puts ids into the store before it lets them go here.
        earlier = [ids for day, ids in (*self._aside, *self._recent) if day >= oldest]
        digests = Digests.of(event_ids)
        known: dict[int, int] = {}
        for run in self._store.runs if self._store else ():
            if run.day >= oldest:
                known.update(run.find(digests))
        today = self._today(max(timestamps) // _DAY_MS)
        earlier = [ids for ids in earlier if ids is not today]
        if not known and not any(earlier):
            return list(map(today.setdefault, digests.values, offsets))
        firsts = []
        for place, (digest, offset) in enumerate(zip(digests.values, offsets, strict=True)):
            first = known.get(place)
            for ids in earlier:
                first = ids.get(digest) if first is None else first
            firsts.append(today.setdefault(digest, offset) if first is None else first)
        return firsts

    def remember(self, event_ids: Sequence[str], offsets: Sequence[int], day: int) -> None:
        """Take in rows priced earlier, in offset order, and not yet known; `day` was the newest day then."""
        today = self._today(day)
        for digest, offset in zip(Digests.of(event_ids).values, offsets, strict=True):
            today.setdefault(digest, offset)

    def set_aside(self, mark: Mark) -> bool:
        """Put ids up to the mark aside for `write`, when they are many; return whether it must be called.

        Everything up to the mark must be delivered.
        """
        if self._store is None or self._aside or self.in_memory < self._spilled_ids:
            return False
        kept: list[_Part] = []
        for day, ids in self._recent:
            late = []
            while ids:
                digest, offset = ids.popitem()  # they stand in the order of offsets
                if offset <= mark.fence:
                    ids[digest] = offset
                    break
                late.append((digest, offset))
            kept.append((day, dict(reversed(late))))
        self._aside, self._aside_mark = tuple(self._recent), mark
        self._recent = [part for part in kept if part[1]] or [(self.newest_day, {})]
        if self._recent[-1][0] != self._aside[-1][0]:
            self._recent.append((self._aside[-1][0], {}))
        return True

    def write(self) -> None:
        """Move what was set aside to the disk; blocks, and runs in a thread beside lookups.

        Raises DataLossError when the disk refuses.
        """
        if self._store is None or self._aside_mark is None or self._store.is_closed:
            return
        self._store.add(self._aside, self._aside_mark, self.newest_day - self._window_days)
        self._aside, self._aside_mark = (), None
        self._store.merge()

    def close(self) -> None:
        """Write nothing any more: the partition is in other hands."""
        if self._store is not None:
            self._store.close()

    def _today(self, day: int) -> dict[bytes, int]:
        """Return the ids of the newest day, which may be a new one; those that have left the window go."""
        if day > self.newest_day:
            recent = [part for part in self._recent if part[1] and part[0] >= day - self._window_days]
            self._recent = [*recent, (day, {})]
        return self._recent[-1][1]
