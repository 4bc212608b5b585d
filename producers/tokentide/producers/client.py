"""Kafka's client, as the producer needs it."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Producer

from tokentide.producers.cloud_event import Record
from tokentide.producers.process import abandon
from tokentide.producers.spool_ticket import Ticket

__all__ = ["Client"]


class Client(Producer):
    """librdkafka's producer, and beside it, once it is needed, one that puts each record into a batch of its own.

    When a batch is larger than the topic allows, librdkafka gives up all events in it, and does not divide it.
    """

    def __init__(self, properties: Mapping[str, Any]) -> None:
        super().__init__(dict(properties))
        self._properties = properties
        self._singles: Producer | None = None

    def __len__(self) -> int:
        return super().__len__() + (0 if self._singles is None else len(self._singles))

    def produce_alone(self, topic: str, record: Record, ticket: Ticket) -> None:
        """Send the record by itself; as `produce` otherwise. One thread at a time."""
        if self._singles is None:
            self._singles = Producer({**self._properties, "linger.ms": 0, "batch.num.messages": 1})
        self._singles.produce(topic, record.value, record.key, headers=record.headers, on_delivery=ticket)

    def poll(self, timeout: float = -1) -> int:
        """Take answers; wait for them so long."""
        served = 0 if self._singles is None else self._singles.poll(0)
        return served + super().poll(timeout)

    def flush(self, timeout: float = -1) -> int:
        """Wait so long for the answers to all records; return how many are missing."""
        left = super().flush(timeout)
        return left if self._singles is None else left + self._singles.flush(0 if left else timeout)

    def purge(self, *arguments: bool, **more: bool) -> None:
        """Give up what is under way."""
        super().purge(*arguments, **more)
        if self._singles is not None:
            self._singles.purge(*arguments, **more)

    def abandon(self) -> None:
        """Leave it to the parent process, in a forked child."""
        abandon(self)
        if self._singles is not None:
            abandon(self._singles)
