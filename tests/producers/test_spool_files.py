"""The files of a spool: what is written, what is read back, and what damage and a full disk do."""

import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.producers.cloud_event import record_from
from tokentide.producers.frame import DamagedError, body_of, pack, unpack
from tokentide.producers.segment import FIRST, SEGMENT_BYTES
from tokentide.producers.spool import Spool
from tokentide.producers.spool_folder import (
    Destination,
    adopt,
    default_roots,
    destination_folder,
    destinations,
    owners,
)
from tokentide.producers.spool_left import left, revive, take_over
from tokentide.producers.spool_ticket import Ticket
from tokentide.producers.spool_writer import SpoolFullError, SpoolWriter

WHERE = Destination("kafka:9092", "usage.events")
WEEK = 7 * 86_400.0
LARGE = 1_000_000


def value(name: str, size: int = 10) -> bytes:
    return b'{"event_id":"%s","timestamp":"2026-03-01T12:00:00Z","model":"%s"}' % (name.encode(), b"v" * size)


def frame(name: str, size: int = 10) -> bytes:
    return pack(value(name, size), b"chat")


def writer(root: Path, monotonic: Callable[[], float] = lambda: 0.0) -> SpoolWriter:
    return SpoolWriter(root, WHERE, 1024**3, 0, monotonic)


def write(spool: SpoolWriter, *names: str, size: int = 10) -> list[str]:
    """Write events, and return the names of those that were taken."""
    return [name for name in names if spool.put(frame(name, size))]


def read(spool: Spool) -> list[str]:
    """Hand on and store everything."""
    keys = []
    while (found := spool.next()) is not None:
        ticket, each = found
        keys.append(each.key.decode())
        spool.hand(ticket)
        spool.done(ticket)
    return keys


def heirs(root: Path, age: float = WEEK) -> list[Spool]:
    found = [adopt(folder, age) for folder in owners(destination_folder(root, WHERE))]
    return [spool for spool in found if spool is not None]


def damage(spool: SpoolWriter, offset: int, data: bytes) -> None:
    with (spool.folder / "00000001.segment").open("r+b") as file:
        file.seek(offset)
        file.write(data)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: files cannot grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("user", [b"", b',"user_id":"ann"', b',"user_id":"Zo\\u00eb"', b',"user_id":""'])
@pytest.mark.parametrize("source", [b"chat", b"", b"x" * 70_000])
def test_an_event_is_read_back_as_it_was_written(user: bytes, source: bytes) -> None:
    one = value("a")[:-1] + user + b"}"

    record = unpack(body_of(pack(one, source)))

    assert record == record_from(one, source)
    assert record.value == one
    assert record.key.decode() == {b"": "a", b',"user_id":""': "a"}.get(
        user, "Zoë" if b"Z" in user else "ann"
    )
    assert dict(record.headers)["ce_source"] == source


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x01",
        b"\x02\x00\x00\x00",
        body_of(frame("a"))[:-1],
        b"\xff" * 40,
        body_of(pack(b"{}", b"chat")),
        body_of(pack(b"[]", b"chat")),
    ],
)
def test_other_bytes_are_no_event(body: bytes) -> None:
    with pytest.raises(DamagedError):
        unpack(body)


def test_an_heir_reads_what_was_not_stored_in_order(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    write(spool, "a", "b", "c", "d")
    places = []
    for _ in range(3):
        found = spool.next()
        assert found is not None
        places.append(found[0])
        spool.hand(found[0])
    spool.done(places[0])
    spool.done(places[2])
    spool.release()

    (heir,) = heirs(tmp_path)

    assert heir.waiting == 2
    assert not heir.is_read
    assert read(heir) == ["b", "d"]
    assert heir.is_finished
    heir.release()
    assert heirs(tmp_path) == []
    assert [path.name for path in destination_folder(tmp_path, WHERE).iterdir()] == ["destination.json"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "hand", "hand", "unmap"]),
            st.integers(1, 400),
            st.sampled_from([10, 10, 10, 50_000]),
        ),
        max_size=12,
    )
)
@settings(max_examples=40, deadline=None)
def test_the_writer_hands_on_what_it_wrote_once_and_in_order(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        spool, lock = writer(Path(root)), threading.RLock()
        written: list[str] = []
        handed: list[str] = []
        waiting: list[Ticket] = []
        for step, count, size in steps:
            for _ in range(count):
                if step == "write":
                    name = str(len(written))
                    written.append(name)
                    assert write(spool, name, size=size)
                elif step == "unmap":
                    spool.unmap_ahead(lock)
                    break
                elif (found := spool.next()) is not None:
                    ticket, each = found
                    handed.append(each.key.decode())
                    assert spool.again(ticket) == each
                    spool.hand(ticket)
                    waiting.append(ticket)
            assert spool.is_read == (len(written) == len(handed))
            for ticket in waiting[::2]:
                spool.done(ticket)
            waiting = waiting[1::2]
            spool.tidy()
        assert handed + read(spool) == written
        for ticket in waiting:
            spool.done(ticket)
        assert spool.is_finished
        spool.tidy()
        assert len(list(spool.folder.glob("*.segment"))) == 1
        spool.release()
        assert not spool.folder.exists()


def test_eight_threads_write_without_a_lock(tmp_path: Path) -> None:
    """The map's own write is one step; a segment that is left takes nothing that nobody would read."""
    spool, lock = writer(tmp_path), threading.RLock()
    interval = sys.getswitchinterval()
    found: list[str] = []

    def write_all(thread: int) -> None:
        for number in range(2_000):
            one = frame(f"{thread}-{number}", 2_000)
            if not spool.append(one):
                with lock:
                    assert spool.put(one)

    threads = [threading.Thread(target=write_all, args=(number,)) for number in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for each in threads:
            each.start()
        while any(each.is_alive() for each in threads):
            with lock:
                found += read(spool)
            spool.tidy()
            spool.unmap_ahead(lock)
    finally:
        sys.setswitchinterval(interval)
        for each in threads:
            each.join()
    found += read(spool)
    spool.tidy()

    by_thread = {thread: [each for each in found if each.startswith(f"{thread}-")] for thread in range(8)}
    assert by_thread == {t: [f"{t}-{number}" for number in range(2_000)] for t in range(8)}
    assert len(found) == 16_000
    assert spool.is_finished
    spool.release()


def test_a_sealed_spool_takes_nothing(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    write(spool, "a")
    late = spool._current.write  # a thread that tracks an event has got hold of it

    spool.seal()

    assert (spool.append(frame("b")), spool.put(frame("c"))) == (False, False)
    with pytest.raises(ValueError, match="out of range"):
        late(frame("d"))
    assert read(spool) == ["a"]
    assert spool.is_finished
    spool.release()


def test_a_live_owner_keeps_its_spool(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    write(spool, "a")

    assert heirs(tmp_path) == []

    spool.release()
    (heir,) = heirs(tmp_path)
    assert heirs(tmp_path) == []
    heir.release()


def test_a_lock_does_not_grow_old_and_is_made_again_when_somebody_deletes_it(tmp_path: Path) -> None:
    """As what cleans the folder for temporary files does after ten days."""
    now = [100.0]
    spool = writer(tmp_path, lambda: now[0])
    write(spool, "a")
    lock = spool.folder / "lock"
    os.utime(lock, (1, 1))

    spool.prepare()
    age = time.time() - lock.stat().st_mtime
    lock.unlink()
    now[0] = 200.0
    spool.prepare()

    assert age < 60
    assert heirs(tmp_path) == []
    spool.release()
    (heir,) = heirs(tmp_path)
    assert read(heir) == ["a"]
    heir.release()


def test_segments_are_deleted_when_kafka_has_all_of_them(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    names = [str(number) for number in range(10)]
    write(spool, *names, size=LARGE)
    before = len(list(spool.folder.glob("*.segment")))

    keys = read(spool)

    spool.tidy()
    after = len(list(spool.folder.glob("*.segment")))
    spool.release()
    assert (before, after) == (3, 1)
    assert keys == names
    assert not spool.folder.exists()


def test_a_damaged_record_is_left_out_and_its_file_kept_aside(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    write(spool, "a", "b", "c")
    damage(spool, FIRST + 2 * len(frame("a")) - 1, b"!")
    spool.release()

    (heir,) = heirs(tmp_path)
    keys = read(heir)
    heir.release()

    assert keys == ["a", "c"]
    assert heir.take_lost() == 1
    (aside,) = heir.take_asides()
    assert aside.name.endswith("-00000001.corrupt")
    assert [each.state for each in left(tmp_path)] == ["corrupt"]


@pytest.mark.parametrize(
    "damaged",
    [b"\xff" * 40, b"\x05\x00\x00\x00", b"\xff\x3f\x00\x00", bytes(60), bytes(len(frame("b")))],
    ids=["no length", "too short", "too long", "zeros in it", "zeros"],
)
def test_what_stands_behind_a_damaged_length_is_read(tmp_path: Path, damaged: bytes) -> None:
    spool = writer(tmp_path)
    write(spool, "a", "b", *(f"c{number}" for number in range(300)))
    damage(spool, FIRST + len(frame("a")), damaged)
    spool.release()

    (heir,) = heirs(tmp_path)
    assert heir.waiting == 302
    keys = read(heir)
    heir.release()

    assert keys == ["a", *(f"c{number}" for number in range(300))]
    assert heir.take_lost() == 1
    assert len(heir.take_asides()) == 1
    assert [(each.state, each.events) for each in left(tmp_path)] == [("corrupt", 1)]


def test_what_stands_before_a_torn_end_is_read(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    write(spool, "a", "b", "c")
    damage(spool, FIRST + 2 * len(frame("a")), b"\xff\xff\xff\xff")
    spool.release()

    (heir,) = heirs(tmp_path)
    keys = read(heir)
    heir.release()

    assert keys == ["a", "b"]
    assert len(heir.take_asides()) == 1


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"garbage" * 100, bytes(100) + b"garbage"])
def test_a_file_that_is_no_segment_stops_nothing(tmp_path: Path, content: bytes) -> None:
    spool = writer(tmp_path)
    write(spool, "a")
    (spool.folder / "00000000.segment").write_bytes(content)
    spool.release()

    (heir,) = heirs(tmp_path)
    keys = read(heir)
    heir.release()

    assert keys == ["a"]
    assert len(heir.take_asides()) == (b"g" in content)


def test_a_folder_named_as_a_segment_stops_nothing(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    write(spool, "a")
    (spool.folder / "00000000.segment").mkdir()
    spool.release()

    (heir,) = heirs(tmp_path)
    assert read(heir) == ["a"]
    heir.release()

    assert heirs(tmp_path) == []


def test_a_segment_that_somebody_deleted_is_lost_and_stops_nothing(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    write(spool, *"abcdefgh", size=LARGE)
    (spool.folder / "00000001.segment").unlink()
    spool.release()

    (heir,) = heirs(tmp_path)
    assert read(heir) == ["e", "f", "g", "h"]
    heir.release()


def test_the_bound_refuses_new_events_and_keeps_the_old_ones(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path, WHERE, 2 * SEGMENT_BYTES, 0)
    write(spool, *"abcdefgh", size=LARGE)

    with pytest.raises(SpoolFullError):
        write(spool, "i", size=LARGE)

    assert read(spool) == list("abcdefgh")
    spool.tidy()
    assert len(write(spool, "i", size=LARGE)) == 1
    spool.release()


def test_a_full_disk_is_tried_again_after_a_while(tmp_path: Path) -> None:
    now = [0.0]
    spool = writer(tmp_path, lambda: now[0])
    write(spool, *"abcd", size=LARGE)

    with files_of_at_most(1_000_000):
        now[0] = 1.0
        refused = write(spool, "e", size=LARGE)
        spool.prepare()
        trouble = spool.trouble
    still = write(spool, "f", size=LARGE)
    now[0] = 12.0
    taken = write(spool, "g", size=LARGE)

    assert (len(refused), len(still), len(taken)) == (0, 0, 1)
    assert trouble is not None
    assert spool.trouble is None
    assert read(spool) == list("abcdg")
    spool.release()


def test_a_disk_that_is_full_from_the_beginning_is_an_oserror_and_keeps_no_folder(tmp_path: Path) -> None:
    with files_of_at_most(1_000_000), pytest.raises(OSError, match="File too large"):
        writer(tmp_path)

    assert list(owners(destination_folder(tmp_path, WHERE))) == []


def test_a_record_larger_than_a_segment_is_not_taken(tmp_path: Path) -> None:
    spool = writer(tmp_path)

    assert write(spool, "a", size=SEGMENT_BYTES) == []
    assert len(write(spool, "b")) == 1
    spool.release()


def test_a_spare_segment_is_made_in_advance(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    spool.prepare()
    made = len(list(spool.folder.glob("*.segment")))

    with files_of_at_most(1_000_000):
        taken = write(spool, *"abcdef", size=LARGE)

    spool.release()
    assert made == 2
    assert len(taken) == 6


def test_who_needs_the_spare_does_not_wait_for_ever_for_who_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The maker may be a finalizer's victim, and want the lock that the other one holds."""
    spool = SpoolWriter(tmp_path, WHERE, 0, 0)
    write(spool, *"abcd", size=LARGE)
    is_there, goes_on, allocate = threading.Event(), threading.Event(), os.posix_fallocate

    def slowly(descriptor: int, start: int, size: int) -> None:
        is_there.set()
        assert goes_on.wait(20)
        allocate(descriptor, start, size)

    monkeypatch.setattr(os, "posix_fallocate", slowly)
    maker = threading.Thread(target=spool.prepare)
    maker.start()
    assert is_there.wait(20)

    before = spool.put(frame("e", LARGE))
    goes_on.set()
    during = spool.put(frame("f", LARGE))
    maker.join()

    assert (before, during) == (False, True)
    assert read(spool) == list("abcdf")
    spool.release()


def test_an_old_segment_gets_no_new_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokentide.producers.spool_writer._MOST_AGE_SECONDS", -1.0)
    spool = writer(tmp_path)
    spool.prepare()
    write(spool, "a")

    spool.rotate()
    write(spool, "b")

    segments = []
    while (found := spool.next()) is not None:
        segments.append(found[0].segment)
        spool.hand(found[0])
    names = [each.path.name for each in segments if each is not None]
    assert names == ["00000001.segment", "00000002.segment"]
    spool.release()


def test_old_segments_are_kept_aside_until_somebody_wants_them(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    write(spool, "a")
    spool.release()

    (aged,) = heirs(tmp_path, age=-1.0)
    aged.release()
    (aside,) = left(tmp_path)
    revive(tmp_path, WHERE)
    (heir,) = heirs(tmp_path)

    assert aged.waiting == 0
    assert (aside.state, aside.events) == ("expired", 1)
    assert read(heir) == ["a"]
    heir.release()


def test_what_was_for_another_broker_can_be_taken_over(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    write(spool, "a")
    spool.release()
    elsewhere = Destination("kafka-2:9092", "usage.events")

    take_over(tmp_path, elsewhere)

    assert [(each.destination, each.state, each.events) for each in left(tmp_path)] == [
        (elsewhere, "dead", 1)
    ]


def test_the_list_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    alive, dead = writer(tmp_path), writer(tmp_path)
    write(alive, "a", "b")
    write(dead, "c")
    dead.release()

    found = {each.path: each for each in left(tmp_path)}

    assert (found[alive.folder].state, found[alive.folder].events) == ("live", 2)
    assert (found[dead.folder].state, found[dead.folder].events) == ("dead", 1)
    assert found[dead.folder].oldest is not None
    alive.release()


def test_each_topic_of_each_broker_has_a_folder_that_says_so(tmp_path: Path) -> None:
    wanted = {
        Destination("a:1", "usage.events"),
        Destination("b:1", "usage.events"),
        Destination("a:1", "../x"),
    }

    folders = {destination_folder(tmp_path, each) for each in wanted}

    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {tmp_path}
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    assert {where for _, where in destinations(tmp_path)} == wanted


def test_the_default_place_is_the_users_state_folder() -> None:
    assert default_roots({"XDG_STATE_HOME": "/s", "HOME": "/h"})[0] == Path("/s/tokentide/spool")
    assert default_roots({"HOME": "/h"})[0].is_relative_to("/h")
