"""What the transport changes in Faust's commits, without Kafka: its answers are played."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from tokentide.schemas import KafkaSettings
from tokentide.streams.faust_app import make_app
from tokentide.streams.pace import Pace
from tokentide.streams.worker_settings import WorkerSettings

_PLACE = TP("usage.priced", 0)


class _Durable:
    """Assignments whose records up to an offset are durable."""

    topics: Sequence[str] = (_PLACE.topic,)
    chunk_records = 1000
    pace = Pace(0.1)

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def assigned(self, partitions: set[TP], generation: int) -> None: ...

    async def revoked(self, partitions: set[TP]) -> None: ...

    def committable(self) -> dict[TP, int]:
        return {_PLACE: self._offset}


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
