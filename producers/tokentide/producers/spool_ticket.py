"""What an event that is with Kafka's client is known by, until Kafka answers."""

from collections.abc import Callable

from confluent_kafka import KafkaError, Message

from tokentide.producers.spool import Place, Spool

__all__ = ["Ticket"]


class Ticket:
    """Which event it is, for when Kafka answers: the delivery report calls it.

    One object an event, not the four of a partial and its tuples: with 100,000 events under way the garbage
    collector's looks at them cost more than writing them to the spool.
    """

    __slots__ = ("is_own", "offset", "report", "segment", "spool")

    def __init__(self, spool: Spool | None, place: Place | None, is_own: bool) -> None:
        self.spool = spool
        self.segment = place.segment if place is not None else None
        self.offset = place.offset if place is not None else 0
        self.is_own = is_own
        """Tracked by this process."""
        self.report: Callable[[Ticket, KafkaError | None], None] | None = None

    @property
    def place(self) -> Place | None:
        """Where it stands on disk; None when it lies in memory only."""
        return None if self.segment is None else Place(self.segment, self.offset)

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """Take Kafka's answer."""
        if self.report is not None:
            self.report(self, error)
