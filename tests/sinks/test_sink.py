"""A sink as a worker drives it: backpressure, acknowledgement, rebalances, and a ClickHouse that is down."""

import asyncio
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tokentide.schemas import (
    DataLossError,
    Period,
    Scope,
    ServiceUnavailableError,
    SpendTotal,
    SpendUpdate,
    StorageRefusedError,
)
from tokentide.schemas.chunk import Chunk, Record
from tokentide.sinks import (
    SPEND,
    BatchSettings,
    ClickHouseSettings,
    ClickHouseWriter,
    Landing,
    Sink,
    SinkSettings,
    connect,
    sink_stages,
)
from tokentide.streams.stage import Stage

TOPIC = "usage.spend"
AT_ONCE = BatchSettings(rows=10_000, seconds=0)
BY_TEN = BatchSettings(rows=10, seconds=3600)
NUMBERS = itertools.count()


class Server(Protocol):
    """The embedded ClickHouse of the fixture `server`."""

    def start(self) -> None: ...
    def kill(self) -> None: ...


def value(name: str) -> bytes:
    """A record of `usage.spend` that makes one row."""
    total = SpendTotal(
        period=Period.DAY,
        period_start=0,
        requests=1,
        input_tokens=0,
        output_tokens=0,
        cost_pico_usd=0,
        unpriced_requests=0,
    )
    update = SpendUpdate(scope=Scope.USER, scope_id=name, source_partition=0, version=1, totals=(total,))
    return update.model_dump_json().encode()


def chunk(partition: int, offsets: Sequence[int], run: str = "") -> Chunk:
    """Records whose rows are named after their place."""
    records = [Record(offset, 0, None, value(f"{run}{partition}:{offset}")) for offset in offsets]
    return Chunk(TOPIC, partition, tuple(records))


@contextmanager
def sinking(
    settings: ClickHouseSettings,
    batch: BatchSettings = AT_ONCE,
    *,
    committed: Mapping[int, int] | None = None,
    landing: Landing[Any] = SPEND,
) -> Iterator[Sink[Any]]:
    """A sink of `usage.spend`, stopped at the end."""
    offsets = {} if committed is None else committed

    def of(topic: str, partition: int) -> int | None:
        assert topic == TOPIC
        return offsets.get(partition)

    sink = Sink(TOPIC, landing, ClickHouseWriter(settings), of, batch)
    yield sink
    sink.stop()


def select(settings: ClickHouseSettings, sql: str) -> Sequence[Sequence[Any]]:
    """The rows of a query."""
    client = connect(settings)
    try:
        return client.query(sql).result_rows
    finally:
        client.close()


def stored(settings: ClickHouseSettings, run: str = "") -> list[str]:
    """The names of the rows, without FINAL: a row that landed twice shows twice."""
    rows = select(settings, "SELECT scope_id FROM spend_totals ORDER BY scope_id")
    return [name.removeprefix(run) for (name,) in rows if name.startswith(run)]


def names(partition: int, offsets: Sequence[int]) -> list[str]:
    """The names of the rows at these places, as `stored` sorts them."""
    return sorted(f"{partition}:{offset}" for offset in offsets)


def test_four_sinks_are_stages_of_the_worker() -> None:
    stages: list[Stage] = [*sink_stages(SinkSettings(), lambda _topic, _partition: None)]

    assert [stage.topic for stage in stages] == [
        *("usage.priced", "usage.spend", "usage.alerts", "usage.rejected")
    ]


def test_a_partition_opens_at_the_offset_that_the_group_has_committed(settings: ClickHouseSettings) -> None:
    async def work(sink: Sink[Any]) -> list[int | None]:
        return [await sink.open(0), await sink.open(1)]

    with sinking(settings, committed={1: 41}) as sink:
        assert asyncio.run(work(sink)) == [None, 41]


def test_an_offset_is_named_once_clickhouse_has_its_row_and_not_before(settings: ClickHouseSettings) -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.open(3)
        before = await sink.flush()
        await sink.take(chunk(0, [4, 5, 9]))
        await sink.take(chunk(3, [0]))

        assert before == {}
        assert stored(settings) == []
        assert await sink.flush() == {0: 10, 3: 1}
        assert stored(settings) == names(0, [4, 5, 9]) + names(3, [0])
        assert await sink.flush() == {0: 10, 3: 1}

    with sinking(settings) as sink:
        asyncio.run(work(sink))


def test_a_batch_that_is_not_due_waits_but_draining_takes_it(settings: ClickHouseSettings) -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.take(chunk(0, range(3)))

        assert await sink.flush() == {}
        assert stored(settings) == []
        assert await sink.drain() == {0: 3}
        assert stored(settings) == names(0, range(3))
        assert await sink.drain() == {0: 3}

    with sinking(settings, BY_TEN) as sink:
        asyncio.run(work(sink))


def test_gauges_tell_the_rows_that_wait_and_those_that_are_stored(settings: ClickHouseSettings) -> None:
    def numbers(sink: Sink[Any]) -> dict[str, float]:
        return {name.removeprefix("tokentide_rows_"): value for name, _, value in sink.gauges()}

    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.take(chunk(0, range(3)))

        assert numbers(sink) == {"gathered": 3, "on_the_way": 0, "stored_total": 0, "refused_total": 0}
        draining = asyncio.create_task(sink.drain())
        await asyncio.sleep(0)
        assert numbers(sink) == {"gathered": 0, "on_the_way": 3, "stored_total": 0, "refused_total": 0}
        await draining
        assert numbers(sink) == {"gathered": 0, "on_the_way": 0, "stored_total": 3, "refused_total": 0}

    with sinking(settings, BY_TEN) as sink:
        asyncio.run(work(sink))


def test_draining_waits_for_the_batch_on_its_way_and_takes_what_came_after_it(
    settings: ClickHouseSettings,
) -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.take(chunk(0, range(10)))
        flushing = asyncio.create_task(sink.flush())
        await asyncio.sleep(0)
        await sink.take(chunk(0, range(10, 13)))

        assert await sink.drain() == {0: 13}
        await flushing

    with sinking(settings, BY_TEN) as sink:
        asyncio.run(work(sink))

    assert stored(settings) == names(0, range(13))


def test_records_that_make_no_row_are_acknowledged_without_an_insert() -> None:
    empty = SpendUpdate(scope=Scope.USER, scope_id="ann", source_partition=0, version=1, totals=())

    async def work(sink: Sink[Any]) -> Mapping[int, int]:
        await sink.open(0)
        await sink.take(Chunk(TOPIC, 0, (Record(7, 0, None, empty.model_dump_json().encode()),)))
        return await sink.flush()

    with sinking(ClickHouseSettings(url="http://127.0.0.1:1")) as sink:
        assert asyncio.run(work(sink)) == {0: 8}


def test_take_waits_while_one_batch_is_full_and_one_is_on_its_way(
    settings: ClickHouseSettings, server: Server
) -> None:
    """The bound on memory: not one record of the second chunk's rest is decoded while ClickHouse is down."""
    decoded = []

    def read(record: Any) -> Any:
        decoded.append(record.offset)
        return SPEND.read(record)

    landing = Landing(SPEND.table, read, SPEND.count, SPEND.rows)

    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        server.kill()
        taking = asyncio.create_task(sink.take(chunk(0, range(100))))
        flushing = asyncio.create_task(sink.flush())
        ticks = 0
        for _ in range(40):
            await asyncio.sleep(0.02)
            ticks += 1

        assert decoded == list(range(20))
        assert not taking.done()
        assert not flushing.done()
        assert ticks == 40  # the loop was free all the time
        await asyncio.to_thread(server.start)
        acknowledged: dict[int, int] = {}
        async with asyncio.timeout(60):
            while acknowledged != {0: 100}:
                acknowledged = {**await flushing}
                flushing = asyncio.create_task(sink.flush())
            await flushing
        assert taking.done()

    with sinking(settings, BY_TEN, landing=landing) as sink:
        asyncio.run(work(sink))

    assert stored(settings) == names(0, range(100))
    assert decoded == list(range(100))


def test_a_long_backlog_is_acknowledged_in_between(settings: ClickHouseSettings) -> None:
    """A flush must end now and then however far behind the sink is: the worker commits after it."""

    async def work(sink: Sink[Any]) -> list[int]:
        await sink.open(0)
        taking = asyncio.create_task(sink.take(chunk(0, range(100))))
        acknowledged: list[int] = []
        while not acknowledged or acknowledged[-1] < 100:
            await asyncio.sleep(0)
            acknowledged.append((await sink.flush()).get(0, 0))
        await taking
        return acknowledged

    with sinking(settings, BatchSettings(rows=10, seconds=0)) as sink:
        acknowledged = asyncio.run(work(sink))

    assert set(acknowledged) > {10, 20, 50, 90, 100}
    assert stored(settings) == names(0, range(100))


def test_what_was_gathered_before_a_partition_is_opened_again_is_dropped_and_comes_again(
    settings: ClickHouseSettings,
) -> None:
    """The log comes again from below what was gathered: kept, those records would count as known, and be lost."""
    committed = {0: 10, 1: 0}

    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.open(1)
        await sink.take(chunk(0, [10, 11]))
        await sink.take(chunk(1, [0, 1]))
        committed[0] = 5

        assert await sink.open(0) == 5
        await sink.take(chunk(0, range(5, 12)))
        assert await sink.drain() == {0: 12, 1: 2}

    with sinking(settings, BY_TEN, committed=committed) as sink:
        asyncio.run(work(sink))

    assert stored(settings) == sorted(names(0, range(5, 12)) + names(1, [0, 1]))


def test_a_chunk_that_waits_while_its_partition_is_opened_again_leaves_nothing_of_its_rest(
    settings: ClickHouseSettings,
) -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        taking = asyncio.create_task(sink.take(chunk(0, range(30))))
        await asyncio.sleep(0)
        assert not taking.done()

        await sink.open(0)
        await taking
        assert await sink.drain() == {}
        await sink.take(chunk(0, range(10)))
        assert await sink.drain() == {0: 10}

    with sinking(settings, BY_TEN) as sink:
        asyncio.run(work(sink))

    assert stored(settings) == names(0, range(10))


def test_a_chunk_that_waits_while_another_partition_closes_goes_on(settings: ClickHouseSettings) -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.open(1)
        await sink.take(chunk(1, range(9)))
        taking = asyncio.create_task(sink.take(chunk(0, range(5))))
        await asyncio.sleep(0)
        assert not taking.done()

        sink.close(1)
        await taking
        assert await sink.drain() == {0: 5}

    with sinking(settings, BY_TEN) as sink:
        asyncio.run(work(sink))

    assert stored(settings) == names(0, range(5))


def test_an_insert_on_its_way_acknowledges_nothing_for_a_partition_that_closed_meanwhile(
    settings: ClickHouseSettings, server: Server
) -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.open(1)
        await sink.take(chunk(0, [0, 1]))
        await sink.take(chunk(1, [0]))
        server.kill()
        flushing = asyncio.create_task(sink.drain())
        await asyncio.sleep(0.1)
        sink.close(0)
        await sink.open(0)
        await asyncio.to_thread(server.start)

        assert await flushing == {1: 1}
        await sink.take(chunk(0, [0, 1, 2]))
        assert await sink.drain() == {0: 3, 1: 1}

    with sinking(settings) as sink:
        asyncio.run(work(sink))

    rows = select(settings, "SELECT scope_id FROM spend_totals FINAL ORDER BY scope_id")
    assert [name for (name,) in rows] == names(0, [0, 1, 2]) + names(1, [0])


def test_a_flush_that_is_cancelled_leaves_its_insert_on_its_way(
    settings: ClickHouseSettings, server: Server
) -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.take(chunk(0, range(3)))
        server.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await sink.flush()
        await asyncio.to_thread(server.start)

        assert await sink.flush() == {0: 3}

    with sinking(settings) as sink:
        asyncio.run(work(sink))

    assert stored(settings) == names(0, range(3))


def test_two_flushes_at_once_wait_for_one_insert_each_batch(settings: ClickHouseSettings) -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.take(chunk(0, range(3)))

        ends = await asyncio.gather(sink.flush(), sink.drain(), sink.flush())

        assert list(ends) == [{0: 3}] * 3

    with sinking(settings) as sink:
        asyncio.run(work(sink))

    assert stored(settings) == names(0, range(3))


def test_a_refusal_is_raised_by_every_flush_from_then_on(settings: ClickHouseSettings) -> None:
    client = connect(settings)
    client.command("DROP TABLE spend_totals")
    client.close()

    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.take(chunk(0, [0]))
        for _ in range(2):
            with pytest.raises(StorageRefusedError, match="run `tokentide migrate`"):
                await sink.flush()

    with sinking(settings) as sink:
        asyncio.run(work(sink))


def test_a_stopped_sink_gives_up_and_acknowledges_nothing() -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(0)
        await sink.take(chunk(0, [0]))
        flushing = asyncio.create_task(sink.flush())
        await asyncio.sleep(0.1)
        sink.stop()
        async with asyncio.timeout(30):
            with pytest.raises(ServiceUnavailableError, match="does not answer"):
                await flushing

    with sinking(ClickHouseSettings(url="http://127.0.0.1:1")) as sink:
        asyncio.run(work(sink))


@pytest.mark.parametrize("content", [None, b"{}"], ids=["no value", "no update"])
def test_a_record_that_cannot_be_read_stops_the_sink_with_its_place(content: bytes | None) -> None:
    async def work(sink: Sink[Any]) -> None:
        await sink.open(2)
        with pytest.raises(DataLossError, match=r"(?=.*\b2\b)(?=.*offset 17).*spend_totals"):
            await sink.take(Chunk(TOPIC, 2, (Record(17, 0, None, content),)))

    with sinking(ClickHouseSettings(url="http://127.0.0.1:1")) as sink:
        asyncio.run(work(sink))


def test_an_opening_that_is_cancelled_leaves_the_partition_closed(settings: ClickHouseSettings) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def committed(_topic: str, _partition: int) -> int | None:
        asked.set()
        go_on.wait(10)
        return 5

    sink = Sink(TOPIC, SPEND, ClickHouseWriter(settings), committed)

    async def work() -> None:
        opening = asyncio.create_task(sink.open(0))
        await asyncio.to_thread(asked.wait, 10)
        opening.cancel()
        go_on.set()
        with suppress(asyncio.CancelledError):
            await opening

        with pytest.raises(KeyError):
            await sink.take(chunk(0, [5]))
        assert await sink.drain() == {}

    asyncio.run(work())
    sink.stop()


@dataclass
class Group:
    """A consumer group over a log that grows without end: who owns each partition, and what is committed."""

    settings: ClickHouseSettings
    run: str
    committed: dict[int, int] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    taking: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    async def assign(self, sinks: Sequence[Sink[Any]], partition: int, owner: int) -> None:
        """Give the partition to a worker, or to the same one again."""
        if partition in self.owners:
            sinks[self.owners[partition]].close(partition)
        self.owners[partition] = owner
        self.positions[partition] = await sinks[owner].open(partition) or 0

    async def deliver(self, sinks: Sequence[Sink[Any]], partition: int, count: int) -> None:
        """Hand on the next records; a worker takes one chunk at a time, and may have to wait in it."""
        owner = self.owners[partition]
        if owner in self.taking and not self.taking[owner].done():
            return
        offsets = range(self.positions[partition], self.positions[partition] + count)
        self.positions[partition] += count
        self.taking[owner] = asyncio.create_task(sinks[owner].take(chunk(partition, offsets, self.run)))
        await asyncio.sleep(0)

    def commit(self, owner: int, offsets: Mapping[int, int]) -> None:
        """Commit what a worker that still owns the partitions says is durable, and look whether it is."""
        for partition, offset in offsets.items():
            assert self.owners[partition] == owner
            self.committed[partition] = offset
        rows = set(stored(self.settings, self.run))
        for partition, offset in self.committed.items():
            assert rows.issuperset(names(partition, range(offset)))


ACTIONS = st.one_of(
    st.tuples(st.just("deliver"), st.integers(0, 2), st.integers(1, 9)),
    st.tuples(st.just("assign"), st.integers(0, 2), st.integers(0, 1)),
    st.tuples(st.just("flush"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("drain"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("cut off"), st.integers(0, 1), st.just(0)),
)


@examples(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(ACTIONS, min_size=5, max_size=25))
def test_whatever_is_committed_is_stored_through_any_course_of_rebalances(
    settings: ClickHouseSettings, actions: list[tuple[str, int, int]]
) -> None:
    group = Group(settings, f"run-{next(NUMBERS)}/")

    async def work(sinks: Sequence[Sink[Any]]) -> None:
        for partition in range(3):
            await group.assign(sinks, partition, partition % 2)
        for action, at, number in actions:
            if action == "deliver":
                await group.deliver(sinks, at, number)
            elif action == "assign":
                await group.assign(sinks, at, number)
            elif action == "cut off":
                flushing = asyncio.create_task(sinks[at].drain())
                await asyncio.sleep(0)
                flushing.cancel()
            else:
                group.commit(at, await (sinks[at].flush() if action == "flush" else sinks[at].drain()))
        for owner, sink in enumerate(sinks):
            while owner in group.taking and not group.taking[owner].done():
                group.commit(owner, await sink.drain())
            group.commit(owner, await sink.drain())
        # All that the workers took of their last assignment is committed, and so stored.
        assert {partition: group.committed.get(partition, 0) for partition in range(3)} == group.positions

    with (
        sinking(settings, BatchSettings(rows=5, seconds=3600), committed=group.committed) as one,
        sinking(settings, BatchSettings(rows=5, seconds=3600), committed=group.committed) as other,
    ):
        asyncio.run(work([one, other]))
