"""Records in and out of one topic, as a client that trusts nothing sees them."""

from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

__all__ = ["QUIET", "Records"]

QUIET = {"log_level": 0}


class Records:
    """One topic of one partition on one cluster."""

    topic = "records"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def create(self, replicas: int = 1) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap, **QUIET})
        admin.create_topics([NewTopic(self.topic, 1, replicas)])[self.topic].result(20)

    def produce(self, count: int, *, first: int = 0, halfway: Callable[[], None] = lambda: None) -> list[str]:
        """Send numbered records, idempotent and acks=all, and return those that were acked."""
        acked: list[str] = []
        producer = Producer(
            {"bootstrap.servers": self.bootstrap, "enable.idempotence": True, "linger.ms": 5, **QUIET}
        )

        def reported(error: KafkaError | None, message: Message) -> None:
            value = message.value()
            if error is None and value is not None:
                acked.append(value.decode())

        for number in range(first, first + count):
            if number == first + count // 2:
                producer.poll(0)
                halfway()
            producer.produce(self.topic, str(number).encode(), on_delivery=reported)
        producer.flush(60)
        return acked

    def read(self) -> list[str]:
        """Every record from the beginning to the end of the log."""
        found: list[str] = []
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                **QUIET,
            }
        )
        consumer.assign([TopicPartition(self.topic, 0, OFFSET_BEGINNING)])
        while (message := consumer.poll(30)) is not None:
            problem = message.error()
            if problem is None:
                found.append((message.value() or b"").decode())
            elif problem.code() == KafkaError._PARTITION_EOF:
                break
        consumer.close()
        return found
