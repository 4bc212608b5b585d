"""Which event it is that goes to Kafka's client, until Kafka answers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, Message

from tokentide.producers.segment import Segment

if TYPE_CHECKING:
    from tokentide.producers.spool import Spool

__all__ = ["Ticket"]


class Ticket:
    """Where the event stands; the delivery report calls it. Without a spool it lies in memory only.

    One object an event, not the four of a partial and its tuples: with 100,000 events under way the garbage
    collector's looks at them cost more than writing them to the spool.
    """

    __slots__ = ("end", "is_alone", "is_own", "offset", "report", "segment", "spool")

    def __init__(
        self, spool: "Spool | None" = None, segment: Segment | None = None, offset: int = 0, end: int = 0
    ) -> None:
        self.spool = spool
        self.segment = segment
        self.offset = offset
        self.end = end
        """The place behind it."""
        self.is_own = spool is None or spool.is_own
        """Tracked by this process."""
        self.is_alone = False
        """Sent in a batch of its own: in another one it was refused."""
        self.report: Callable[[Ticket, KafkaError | None], None] | None = None

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """Take Kafka's answer."""
        if self.report is not None:
            self.report(self, error)
