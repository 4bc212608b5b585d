"""The contract between a stage of the pipeline and the worker that runs it, on Faust or on anything else."""

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from tokentide.schemas.chunk import Chunk
from tokentide.schemas.gauge import Gauge

__all__ = ["Measured", "Stage"]


class Stage(Protocol):
    """What is done with the chunks of one topic, and how it is made durable.

    The worker calls `open` before the first chunk of a partition and hands on every record once, in the
    order of offsets, without a hole; one call at a time, `flush` apart, which runs while chunks go on coming.
    Whatever a stage raises ends the process: nothing is skipped, the next start begins at the last commit.
    """

    topic: str
    """The topic whose chunks it takes."""

    async def open(self, partition: int) -> int | None:
        """Recover the partition; return the offset that is expected next, None for the start of the log.

        May take as long as recovery does, and must not block the event loop meanwhile. When the call is cancelled,
        nothing of the partition may remain.
        """

    def close(self, partition: int) -> None:
        """Forget the partition: it belongs to another worker now, or is opened again. A flush on its way may end."""

    async def take(self, chunk: Chunk) -> None:
        """Apply the chunk to the partition's state; wait here when too much is not flushed yet (backpressure)."""

    async def flush(self) -> Mapping[int, int]:
        """Publish what is due, wait for its delivery, remember it, wait for that too.

        Returns for each partition up to which offset (exclusive) everything is durable: the worker commits it.
        """

    async def drain(self) -> Mapping[int, int]:
        """Flush all that was taken, due or not: the partitions are about to go, or the process to end."""


@runtime_checkable
class Measured(Protocol):
    """A stage that tells numbers of its own."""

    def gauges(self) -> Iterator[Gauge]:
        """Yield how large the state is, and what waits; called each second in the event loop: it must be cheap."""
