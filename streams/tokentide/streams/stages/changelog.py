"""The changelog of a stage: what it remembers, and how far that goes."""

from collections.abc import Iterator, Sequence

from tokentide.streams.log import Log
from tokentide.streams.outbox import Outbox

__all__ = ["Changelog"]


class Changelog:
    """A compacted topic of a stage's own; partition i of it belongs to partition i of the stage's topic.

    The record under `fence_key` says up to where all others are true. So it leaves last.
    """

    def __init__(self, topic: str, fence_key: bytes, outbox: Outbox, log: Log) -> None:
        self.topic = topic
        self._fence_key = fence_key
        self._outbox = outbox
        self._log = log

    async def remember(
        self, records: Sequence[tuple[int, bytes, bytes]], deletions: Sequence[tuple[int, bytes]] = ()
    ) -> None:
        """Return when Kafka has every (partition, key, value), and then every (partition, key) deleted.

        Sent together, a fence could be stored although Kafka refused a record that it speaks for, and whoever
        recovers would take what that held for counted. What is deleted is closed by the fence.
        """
        fences = [record for record in records if record[1] == self._fence_key]
        others = [record for record in records if record[1] != self._fence_key]
        for step in (others, fences, [(*deletion, None) for deletion in deletions]):
            group = self._outbox.group()
            for partition, key, value in step:
                group.send(self.topic, value, key=key, partition=partition)
            await group.delivered()

    def read(self, partition: int) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield the (key, value) of every record; it blocks, call it in a thread."""
        return (
            (record.key, record.value)
            for record in self._log.read(self.topic, partition, 0)
            if record.key is not None
        )
