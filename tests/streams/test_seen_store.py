"""Ids on disk are those of a true prefix of the log, at whatever step the process dies."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.schemas import DataLossError
from tokentide.streams.seen import SeenIds
from tokentide.streams.seen_store import Mark, SeenStore

DAY = 86_400_000
START = 20_000 * DAY


class KilledError(BaseException):
    """The process is no more."""


@contextlib.contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Let the process die before its so-manieth call that changes the disk for good."""
    left = step

    def dying(call: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError
            return call(*arguments, **options)

        return counted

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "replace", "unlink"):
            patch.setattr(os, name, dying(getattr(os, name)))
        with contextlib.suppress(KilledError):
            yield


class Meter:
    """A pricing stage that dies at any step, with what Kafka has of it in miniature."""

    def __init__(self, folder: Path, records: list[tuple[str, int]], chance: random.Random) -> None:
        self.folder = folder
        self.records = records
        self.chance = chance
        self.published: list[tuple[int, list[int], int]] = []
        """The records of `usage.priced`: the last offset covered, the offsets of the rows, the day."""
        self.open()

    def open(self) -> None:
        self.store = SeenStore(self.folder, wait_seconds=0.0)
        mark = self.store.mark
        self.fence, behind = (mark.fence, mark.priced) if mark is not None else (-1, 0)
        if mark is not None:
            assert self.published[mark.priced - 1][0] == mark.fence, "the disk never leads"
        self.seen = SeenIds(30, self.store, spilled_ids=3)
        for last, offsets, day in self.published[behind:]:
            self.seen.remember([self.records[offset][0] for offset in offsets], offsets, day)
            self.fence = last

    def crash(self) -> None:
        self.store.close()
        self.open()

    def run(self) -> None:
        while self.fence + 1 < len(self.records):
            chunk = range(
                self.fence + 1, min(len(self.records), self.fence + 1 + self.chance.randrange(1, 6))
            )
            names, moments = zip(*(self.records[offset] for offset in chunk), strict=True)
            firsts = self.seen.first_offsets(names, chunk, moments)
            if self.chance.random() < 0.1:
                self.crash()  # priced, not published
                continue
            rows = [offset for first, offset in zip(firsts, chunk, strict=True) if first == offset]
            self.published.append((chunk[-1], rows, self.seen.newest_day))
            self.fence = chunk[-1]
            if self.chance.random() < 0.2:
                self.crash()  # published, not remembered
                continue
            if self.seen.set_aside(Mark(self.fence, len(self.published), "nonce")):
                with killed_at(self.chance.randrange(40)):
                    self.seen.write()
                    continue
                self.crash()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=1, max_size=80),
    st.integers(0, 2**32),
)
def test_each_id_counts_once_whatever_crashes(drawn: list[tuple[int, int]], seed: int) -> None:
    records = []
    moment = START
    for number, days in drawn:
        moment += (days == 3) * DAY
        records.append((f"id-{number}", moment))
    with tempfile.TemporaryDirectory(prefix="dedupe-") as folder:
        meter = Meter(Path(folder), records, random.Random(seed))
        meter.run()

        if moment - START < 30 * DAY:
            firsts = {name: offset for offset, (name, _) in reversed(list(enumerate(records)))}
            assert [row for _, rows, _ in meter.published for row in rows] == sorted(firsts.values())
            meter.crash()
            known = meter.seen.first_offsets(list(firsts), [10**6] * len(firsts), [moment] * len(firsts))
            assert known == list(firsts.values())
            named = {run.path.name for run in meter.store.runs}
            assert {path.name for path in Path(folder).glob("*.ids")} == named, "no file is left behind"
        meter.store.close()


WRITER = """
import sys
from pathlib import Path
from tokentide.streams.seen import SeenIds
from tokentide.streams.seen_store import Mark, SeenStore

store = SeenStore(Path(sys.argv[1]))
seen = SeenIds(7, store, spilled_ids=100)
first = store.mark.fence + 1 if store.mark else 0
print("ready", flush=True)
while True:
    offsets = range(first, first + 100)
    seen.first_offsets([str(offset) for offset in offsets], offsets, [0] * 100)
    first += 100
    assert seen.set_aside(Mark(first - 1, first, "nonce"))
    seen.write()
"""


def test_after_a_real_kill_the_disk_holds_exactly_what_lies_before_its_mark(tmp_path: Path) -> None:
    fence = -1
    for delay in (0.3, 0.45, 0.6):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)

        store = SeenStore(tmp_path)
        assert store.mark is None or store.mark.fence >= fence
        fence = store.mark.fence if store.mark is not None else -1
        names = [str(offset) for offset in range(fence + 500)]
        firsts = SeenIds(7, store).first_offsets(names, [2**40] * len(names), [0] * len(names))
        assert firsts[: fence + 1] == list(range(fence + 1))
        assert set(firsts[fence + 1 :]) == {2**40}
        store.close()
    assert fence > 0


def filled(folder: Path, count: int = 10) -> SeenStore:
    store = SeenStore(folder)
    seen = SeenIds(7, store, spilled_ids=1)
    for offset in range(count):
        seen.first_offsets([str(offset)], [offset], [START])
        assert seen.set_aside(Mark(offset, offset + 1, "nonce"))
        seen.write()
    return store


def test_few_files_stay_of_many_writes(tmp_path: Path) -> None:
    store = filled(tmp_path, 70)

    assert sorted(run.count for run in store.runs) == [1, 1, 4, 64]
    assert len(list(tmp_path.glob("*.ids"))) == 4


def test_a_day_that_is_over_becomes_one_file_and_goes_with_its_window(tmp_path: Path) -> None:
    store = filled(tmp_path, 6)
    seen = SeenIds(1, store, spilled_ids=1)

    for days, expected in ((1, [(20_000, 6), (20_001, 1)]), (2, [(20_001, 1), (20_002, 1)])):
        seen.first_offsets([f"day-{days}"], [10 + days], [START + days * DAY])
        assert seen.set_aside(Mark(10 + days, 11 + days, "nonce"))
        seen.write()
        assert sorted((run.day, run.count) for run in store.runs) == expected
    assert len(list(tmp_path.glob("*.ids"))) == 2


@pytest.mark.parametrize("harm", ["cut", "gone", "manifest", "version"])
def test_a_folder_that_cannot_be_read_is_emptied(harm: str, tmp_path: Path) -> None:
    filled(tmp_path).close()
    run = next(tmp_path.glob("*.ids"))
    if harm == "cut":
        run.write_bytes(run.read_bytes()[:-1])
    elif harm == "gone":
        run.unlink()
    else:
        (tmp_path / "manifest.json").write_text("{" if harm == "manifest" else '{"mark":[1,2],"runs":[]}')

    store = SeenStore(tmp_path)

    assert (store.mark, store.runs, list(tmp_path.glob("*.ids"))) == (None, (), [])


def test_two_owners_of_a_folder_are_told_apart(tmp_path: Path) -> None:
    store = SeenStore(tmp_path)

    with pytest.raises(
        DataLossError, match=r"another process uses .*TOKENTIDE_WORKER or a TOKENTIDE_WORK_DIR"
    ):
        SeenStore(tmp_path, wait_seconds=0.0)

    store.close()
    SeenStore(tmp_path, wait_seconds=0.0).close()


def test_a_closed_store_writes_nothing_any_more(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    late = SeenIds(7, store, spilled_ids=1)
    late.first_offsets(["late"], [99], [START])
    assert late.set_aside(Mark(99, 100, "nonce"))

    late.close()
    late.write()
    store.add([(20_000, {b"0" * 16: 99})], Mark(99, 100, "nonce"), 0)

    assert SeenStore(tmp_path).mark == Mark(2, 3, "nonce")


def test_a_partition_lost_during_a_write_is_free_when_the_write_ends(tmp_path: Path) -> None:
    store = SeenStore(tmp_path)
    seen = SeenIds(7, store, spilled_ids=1)
    seen.first_offsets([str(number) for number in range(200_000)], range(200_000), [START] * 200_000)
    assert seen.set_aside(Mark(199_999, 1, "nonce"))
    writing = threading.Thread(target=seen.write)
    writing.start()
    seen.close()

    after = SeenStore(tmp_path, wait_seconds=30.0)

    writing.join()
    assert (after.mark is None) == (not after.runs)


def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataLossError, match=r"event ids cannot be remembered in .*TOKENTIDE_WORK_DIR"):
        SeenStore(tmp_path / "file" / "seen")


def test_a_full_disk_stops_and_harms_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    (tmp_path / "20000-99-0.ids").mkdir()  # nothing can be written there

    with pytest.raises(DataLossError, match="cannot be remembered"):
        store.add([(20_000, {b"0" * 16: 99})], Mark(99, 100, "nonce"), 0)

    (tmp_path / "20000-99-0.ids").rmdir()
    store.close()
    assert SeenStore(tmp_path).mark == Mark(2, 3, "nonce")
