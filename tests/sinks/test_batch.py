"""Gathering records into batches: when a batch is due, and what its token says."""

from collections.abc import Sequence

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tokentide.sinks import Batch, Batcher, BatchSettings, Landing, Record, token

RECORDS = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=8)), min_size=1, max_size=30)


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _rows(values: Sequence[bytes]) -> pa.Table:
    return pa.table({"value": pa.array(values, pa.binary())})


# A record is as many rows as its value has bytes.
BYTES: Landing[bytes] = Landing("bytes", lambda record: record.value, len, _rows)


def gather(
    records: Sequence[tuple[int, int, bytes]], settings: BatchSettings | None = None
) -> Batcher[bytes]:
    """A batcher that holds the records (partition, offset, value)."""
    batcher = Batcher(BYTES, "topic", settings)
    for record in records:
        batcher.add(*record)
    return batcher


def taken(batcher: Batcher[bytes]) -> Batch[bytes]:
    """The batch of a batcher that is not empty."""
    batch = batcher.take()
    assert batch is not None
    return batch


def numbered(values: Sequence[tuple[int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The (partition, value) pairs with offsets that count up in each partition."""
    offsets: dict[int, int] = {}
    records = []
    for partition, value in values:
        offsets[partition] = offsets.get(partition, -1) + 1
        records.append((partition, offsets[partition], value))
    return records


def test_an_empty_batcher_is_never_due_and_gives_nothing() -> None:
    batcher = gather([], BatchSettings(rows=1, seconds=0))

    assert not batcher.is_due()
    assert batcher.take() is None


def test_it_is_full_at_so_many_rows_and_not_one_before() -> None:
    batcher = gather([(0, 0, b"12"), (1, 0, b"34")], BatchSettings(rows=5))

    before = batcher.is_full(), batcher.is_due()
    batcher.add(0, 1, b"5")

    assert before == (False, False)
    assert (batcher.is_full(), batcher.is_due()) == (True, True)
    assert len(batcher) == 5


def test_it_is_full_at_so_many_bytes_of_records() -> None:
    landing = Landing("bytes", lambda record: record.value, lambda _: 1, _rows)
    batcher = Batcher(landing, "topic", BatchSettings(rows=10, bytes=100))

    batcher.add(0, 0, b"x" * 99)
    before = batcher.is_full()
    batcher.add(1, 0, b"x")

    assert not before
    assert batcher.is_full()


def test_it_is_due_so_long_after_its_first_record_though_more_keep_coming() -> None:
    clock = Clock()
    batcher = Batcher(BYTES, "topic", BatchSettings(seconds=2.0), clock)
    batcher.add(0, 0, b"a")
    clock.now += 1.9
    batcher.add(0, 1, b"b")
    before = batcher.is_due()
    clock.now += 0.1

    assert not before
    assert batcher.is_due()
    assert not batcher.is_full()


def test_the_age_of_the_next_batch_begins_with_its_own_first_record() -> None:
    clock = Clock()
    batcher = Batcher(BYTES, "topic", BatchSettings(seconds=2.0), clock)
    batcher.add(0, 0, b"a")
    clock.now += 5
    batcher.take()
    clock.now += 5
    batcher.add(0, 1, b"b")

    assert not batcher.is_due()


def test_a_record_that_comes_twice_is_gathered_once() -> None:
    batcher = gather([(0, 4, b"a"), (0, 5, b"b"), (0, 4, b"a"), (0, 5, b"b"), (0, 6, b"c")])

    batch = taken(batcher)

    assert batch.rows().to_pydict() == {"value": [b"a", b"b", b"c"]}
    assert batch.ranges == {0: (4, 6)}


def test_the_batch_names_the_first_and_last_offset_of_each_partition_across_gaps() -> None:
    batch = taken(gather([(1, 7, b"a"), (0, 3, b"b"), (1, 90, b"c")]))

    assert batch.ranges == {0: (3, 3), 1: (7, 90)}
    assert batch.token.startswith("topic/0:3-3/1:7-90/")
    assert batch.table == "bytes"


def test_a_partition_that_is_discarded_leaves_the_others_as_if_it_had_never_been() -> None:
    both = gather([(0, 0, b"a"), (1, 0, b"bb"), (0, 1, b"c")])
    alone = gather([(1, 0, b"bb")])

    both.discard(0)

    assert len(both) == 2
    assert taken(both) == taken(alone)


def test_a_discarded_partition_may_begin_again_below() -> None:
    batcher = gather([(0, 10, b"ten")])

    batcher.discard(0)
    batcher.add(0, 9, b"nine")
    batcher.add(0, 10, b"ten")

    assert taken(batcher).ranges == {0: (9, 10)}


@given(RECORDS)
def test_the_same_records_make_the_same_batch_however_partitions_interleave(
    values: list[tuple[int, bytes]],
) -> None:
    records = numbered(values)
    by_partition = sorted(records, key=lambda record: record[0])

    one, other = taken(gather(records)), taken(gather(by_partition))

    assert one.token == other.token
    assert one.ranges == other.ranges
    assert one.rows().equals(other.rows())


@given(RECORDS, RECORDS)
def test_other_records_have_another_token(
    values: list[tuple[int, bytes]], others: list[tuple[int, bytes]]
) -> None:
    one, other = taken(gather(numbered(values))), taken(gather(numbered(others)))

    same = sorted(numbered(values)) == sorted(numbered(others))
    assert (one.token == other.token) == same


@given(RECORDS, st.integers(1, 29))
def test_batches_hold_every_record_once_wherever_they_are_cut(
    values: list[tuple[int, bytes]], size: int
) -> None:
    records = numbered(values)
    batcher = Batcher(BYTES, "topic")
    contents = []

    for at, record in enumerate(records):
        batcher.add(*record)
        if at % size == 0:
            contents += taken(batcher).contents
    rest = batcher.take()
    contents += rest.contents if rest is not None else []

    assert sorted(contents) == sorted(value for _, _, value in records)


def test_a_token_without_content_is_only_the_place() -> None:
    assert token("usage.priced", {10: (5, 7), 2: (0, 0)}) == "usage.priced/2:0-0/10:5-7"


def test_records_are_decoded_when_they_are_added() -> None:
    seen: list[Record] = []

    def read(record: Record) -> bytes:
        seen.append(record)
        return record.value

    Batcher(Landing("bytes", read, len, _rows), "topic").add(3, 9, b"x")

    assert seen == [Record(3, 9, b"x")]
