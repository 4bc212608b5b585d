"""A worker's app that commits nothing, and seeks after it has read: `twice_read.py BROKER TOPIC DIRECTORY`.

It prints the offsets of the first chunk that it gets, those of the first one after the seek, and ends.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faust.types import TP

from tokentide.schemas import KafkaSettings
from tokentide.schemas.chunk import Chunk
from tokentide.streams.faust_app import make_app
from tokentide.streams.pace import Pace
from tokentide.streams.transport import RawSchema
from tokentide.streams.worker_settings import WorkerSettings


class Uncommitted:
    """Nothing that is read is durable."""

    chunk_records = 1000
    pace = Pace(0.1)

    def __init__(self, topic: str) -> None:
        self.topics: Sequence[str] = [topic]

    def assigned(self, partitions: set[TP], generation: int) -> None:
        """Recover nothing."""

    async def revoked(self, partitions: set[TP]) -> None:
        """Finish nothing."""

    def committable(self) -> dict[TP, int]:
        """Have nothing to commit."""
        return {}


async def main(broker: str, topic: str, directory: str) -> None:
    """Read, seek, and read again."""
    settings = WorkerSettings("twice", "meter-1", KafkaSettings(broker), Path(directory), 6.0, 0.1)
    app = make_app(settings, Uncommitted(topic))
    chunks: asyncio.Queue[Chunk] = asyncio.Queue()

    @app.agent(app.topic(topic, schema=RawSchema(key_serializer="raw", value_serializer="raw")))
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            chunks.put_nowait(event.value)

    await app.start()
    _tell(await chunks.get())
    await app.consumer.perform_seek()
    _tell(await chunks.get())
    # Faust's threads may take their time.
    os._exit(0)


def _tell(chunk: Chunk) -> None:
    print([record.offset for record in chunk.records], flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
