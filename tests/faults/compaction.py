"""A compaction of the changelogs that really happens, within half a minute."""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, TopicPartition
from support.oracle import read_topic

__all__ = ["COMPACTING", "ROUND_SECONDS", "wait_until_compacted"]

_LAG_SECONDS = 24
ROUND_SECONDS = 8.0
"""How long a meter takes to write all records again: a part of the lag, as twenty minutes are of the plan's hour."""

COMPACTING = {
    "min.compaction.lag.ms": str(_LAG_SECONDS * 1000),
    "max.compaction.lag.ms": str((_LAG_SECONDS + 2) * 1000),
    "min.cleanable.dirty.ratio": "0.5",
    "segment.ms": "4000",
    "delete.retention.ms": "1000",
}
"""What makes the cleaner take up a topic soon; the plan says an hour."""

_COMPACTED_SECONDS = 150.0
_LOOK_SECONDS = 6.0


def wait_until_compacted(broker: str, topics: list[str], trickle: Callable[[], None]) -> list[str]:
    """Return when each topic holds far fewer records than were written to it; else a sentence for each.

    `trickle` has something written to them, now and then: Kafka closes a segment only when another record comes.
    """
    began = time.monotonic()
    look_at = began + _LAG_SECONDS
    waiting = list(topics)
    while waiting and time.monotonic() < began + _COMPACTED_SECONDS:
        trickle()
        time.sleep(2.0)
        if time.monotonic() >= look_at:  # all of it is read: not too often
            waiting = [topic for topic in waiting if not _is_compacted(broker, topic)]
            look_at = time.monotonic() + _LOOK_SECONDS
    return [f"{topic} was not compacted within {_COMPACTED_SECONDS:.0f} s" for topic in waiting]


def _is_compacted(broker: str, topic: str) -> bool:
    """Whether a fifth of its records is gone; offsets stay, so their ends say how many were written."""
    client = Consumer({"bootstrap.servers": broker, "group.id": "compaction", "log_level": 0})
    try:
        messages = read_topic(broker, topic)
        partitions = {int(message.partition() or 0) for message in messages}
        written = sum(
            client.get_watermark_offsets(TopicPartition(topic, partition), 10)[1] for partition in partitions
        )
    except (KafkaException, AssertionError):  # a node is away, by another fault
        return False
    finally:
        client.close()
    return 0 < len(messages) < written * 0.8
