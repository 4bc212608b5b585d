"""What the transport changes in Faust's commits and seeks."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from tokentide.schemas import KafkaSettings
from tokentide.schemas.chunk import Chunk
from tokentide.streams.faust_app import make_app
from tokentide.streams.transport import RawSchema
from tokentide.streams.worker_settings import WorkerSettings

_PLACE = TP("usage.priced", 0)


class _Durable:
    """Assignments whose records up to an offset are durable; None for no record."""

    chunk_records = 1000

    def __init__(self, offset: int | None) -> None:
        self._offset = offset

    def assigned(self, partitions: set[TP], generation: int) -> None: ...

    async def revoked(self, partitions: set[TP]) -> None: ...

    def committable(self) -> dict[TP, int]:
        return {} if self._offset is None else {_PLACE: self._offset}


def test_a_commit_that_the_group_refused_is_made_again_and_then_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [False, True]
    committed: list[dict[TP, int]] = []

    async def answer(offsets: Mapping[TP, int]) -> bool:
        committed.append(dict(offsets))
        return answers[len(committed) - 1]

    async def commit_three_times() -> None:
        settings = WorkerSettings("sinks", "sink-1", KafkaSettings(), tmp_path, 6.0, 0.1)
        consumer: Any = make_app(settings, _Durable(102)).consumer
        monkeypatch.setattr(consumer, "assignment", lambda: {_PLACE})
        monkeypatch.setattr(consumer, "_commit", answer)
        for _ in range(3):
            await consumer.commit()
        consumer._thread.thread_loop.close()

    asyncio.run(commit_three_times())

    assert committed == [{_PLACE: 102}, {_PLACE: 102}]


def test_what_was_fetched_and_thrown_away_before_the_first_commit_is_fetched_again(
    kafka: KafkaSettings, topic: str, write: Callable[[int, int], None], tmp_path: Path
) -> None:
    """A new assignment throws away what is under way, then seeks; nothing more is ever written."""
    write(0, 10)
    taken: asyncio.Queue[list[int]] = asyncio.Queue()

    async def take_twice() -> list[list[int]]:
        app = make_app(WorkerSettings("meters", "meter-1", kafka, tmp_path, 6.0, 0.1), _Durable(None))

        @app.agent(app.topic(topic, schema=RawSchema(key_serializer="raw", value_serializer="raw")))
        async def agent(stream: Any) -> None:
            async for event in stream.events():
                chunk: Chunk = event.value
                taken.put_nowait([record.offset for record in chunk.records])

        async with asyncio.timeout(60):
            await app.start()
            first = await taken.get()
            await app.consumer.perform_seek()
            second = await taken.get()
            await app.stop()
        return [first, second]

    assert asyncio.run(take_twice()) == [list(range(10))] * 2
