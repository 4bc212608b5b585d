"""What the dedupe memory of one partition costs: 70 million ids of seven days, on disk and in memory.

    .venv/bin/python benchmarks/dedupe.py [--ids 70000000] [--days 7] [--duplicates 1] [--sqlite 0] [--folder DIR]

Chunks of 2,000 new ids go through `SeenIds.first_offsets` as in the meter; what is due is written to the disk in a
thread beside it, as in the meter. The figures are CPU of all threads: digests, look-ups in all days, inserts and the
durable writes (run files, merges, fsync), but not making the ids up. `--sqlite N` puts N ids into one SQLite file a
day (WAL, synchronous=NORMAL) for comparison, which has less to do: its digests are not counted.
"""

import argparse
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from tokentide.streams.seen import SeenIds
from tokentide.streams.seen_store import Mark, SeenStore

CHUNK = 2_000
DAY_MS = 86_400_000
START_MS = 20_000 * DAY_MS


def main() -> None:
    """Measure, and print a line for each tenth and a table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--ids", type=int, default=70_000_000)
    options.add_argument("--days", type=int, default=7)
    options.add_argument("--duplicates", type=int, default=1, help="percent of a chunk that was there before")
    options.add_argument("--sqlite", type=int, default=0, help="how many ids go through SQLite")
    options.add_argument("--folder", type=Path, default=None)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="dedupe-", dir=chosen.folder) as folder:
        if chosen.sqlite:
            with_sqlite(Path(folder), chosen.sqlite, chosen.ids, chosen.days)
        else:
            with_runs(Path(folder), chosen.ids, chosen.days, chosen.duplicates)


def with_runs(folder: Path, count: int, days: int, percent: int) -> None:
    """Take in so many ids."""
    print(f"before: {memory()}")
    seen = SeenIds(7, SeenStore(folder))
    writing: threading.Thread | None = None
    spent, everything = -time.process_time(), 0.0
    making = time.thread_time()
    for first, ids in chunks(count, percent):
        offsets = list(range(first, first + CHUNK))
        moment = START_MS + first * days // count * DAY_MS
        spent -= time.thread_time() - making
        seen.first_offsets(ids, offsets, [moment] * CHUNK)
        if writing is not None and (seen.is_full or not writing.is_alive()):
            writing.join()
            writing = None
        if writing is None and seen.set_aside(Mark(first + CHUNK - 1, first, "benchmark")):
            writing = threading.Thread(target=seen.write)
            writing.start()
        if (first + CHUNK) % (count // 10) < CHUNK:
            spent += time.process_time()
            part = count / 10 / 1e6
            print(
                f"{(first + CHUNK) / 1e6:5.1f}M ids: {spent / part:5.2f} us an id, {memory()}, "
                f"disk {size(folder) / 1e6:.0f} MB",
                flush=True,
            )
            everything, spent = everything + spent, -time.process_time()
        making = time.thread_time()
    if writing is not None:
        writing.join()
    print(f"all: {everything / count * 1e6:.2f} us an id; {len(seen) / 1e6:.1f}M ids remembered")
    timed_lookups(seen, count)
    seen.close()
    started = time.perf_counter()
    store = SeenStore(folder)
    print(f"opened in {(time.perf_counter() - started) * 1000:.1f} ms: {len(store.runs)} runs")
    timed_lookups(SeenIds(7, store), count)


def timed_lookups(seen: SeenIds, count: int) -> None:
    """Ask for ids without writing: only known ones, spread over all days."""
    step = count * 9 // 10 // CHUNK // CHUNK * CHUNK
    known = [identity(number * step) for number in range(CHUNK)]
    started = time.process_time()
    firsts = seen.first_offsets(known, [2**40] * CHUNK, [START_MS] * CHUNK)
    took = (time.process_time() - started) / CHUNK * 1e6
    assert max(firsts) < 2**40, "an id was forgotten"
    print(f"a chunk of duplicates only: {took:.2f} us an id, {memory()}")


def with_sqlite(folder: Path, count: int, per: int, days: int) -> None:
    """Do the same with a table a day."""
    files: list[sqlite3.Connection] = []
    spent, a_day = 0.0, per // days
    for first, ids in chunks(count, 0):
        if first // a_day >= len(files):
            files.append(sqlite3.connect(folder / f"{len(files)}.db", isolation_level=None))
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-16384"):
                files[-1].execute(f"PRAGMA {pragma}")
            files[-1].execute("CREATE TABLE seen (id BLOB PRIMARY KEY, at INTEGER) WITHOUT ROWID")
        digests = [blake2b(text.encode(), digest_size=16).digest() for text in ids]
        started = time.process_time()
        marks = ",".join("?" * CHUNK)
        for file in files:
            file.execute(f"SELECT id, at FROM seen WHERE id IN ({marks})", digests).fetchall()
        files[-1].execute("BEGIN")
        files[-1].executemany(
            "INSERT INTO seen VALUES (?, ?)", zip(digests, range(first, first + CHUNK), strict=True)
        )
        files[-1].execute("COMMIT")
        spent += time.process_time() - started
        if (first + CHUNK) % (count // 10) < CHUNK:
            print(
                f"SQLite {(first + CHUNK) / 1e6:5.1f}M ids: {spent / count * 1e7:5.2f} us an id, "
                f"{memory()}, disk {size(folder) / 1e6:.0f} MB",
                flush=True,
            )
            spent = 0.0
    for file in files:
        file.close()


def chunks(count: int, percent: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the first offset and the ids of each chunk; the last `percent` of each came earlier."""
    repeats = CHUNK * percent // 100
    for first in range(0, count - CHUNK + 1, CHUNK):
        ids = [identity(first + place) for place in range(CHUNK - repeats)]
        ids += [identity((first * 31 + place * 7907) % (first + 1)) for place in range(repeats)]
        yield first, ids


def identity(number: int) -> str:
    """Return an id as long as a UUID."""
    return f"0190b6a4-7e1c-7000-8000-{number:012x}"


def memory() -> str:
    """What this process holds: its own, and pages of files that the kernel may take back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    held = {line.split(":")[0]: int(line.split()[1]) // 1024 for line in lines if line.startswith("Rss")}
    return f"RAM {held['RssAnon']} MB + {held['RssFile']} MB mapped"


def size(folder: Path) -> int:
    """Bytes on disk."""
    return sum(entry.stat().st_size for entry in os.scandir(folder))


if __name__ == "__main__":
    main()
