"""The settings of a usage producer."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tokentide.schemas import Environment, KafkaSettings, SettingsError, TopicNames, UsageEvent

__all__ = ["NO_SPOOL", "ProducerSettings"]

NO_SPOOL = "off"
"""The spool folder of a producer that keeps nothing on disk."""

# librdkafka's own bound, which it would name by another property, queue.buffering.max.ms.
_MOST_LINGER_MS = 900_000


@dataclass(frozen=True)
class ProducerSettings:
    """How a service sends its usage events.

    Raises SettingsError that names every wrong value.
    """

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topic: str = TopicNames().events
    # Where it is told that events found no room.
    alerts_topic: str = TopicNames().alerts
    # CloudEvents `source` of events that name no service.
    source: str = "tokentide"
    # How long a record waits for others to share its request.
    linger_ms: int = 30
    # Events inside librdkafka; what is beyond waits in the spool.
    queue_events: int = 100_000
    # Events in memory behind that queue, when there is no spool; what is beyond both is dropped and counted.
    fallback_events: int = 100_000
    # Without a spool: how long an event is retried before it is counted as failed. With one: for ever.
    delivery_timeout_seconds: float = 300.0
    # Where events lie until Kafka has them, on a local disk. None: in the user's state folder; "off": memory only.
    spool_dir: str | None = None
    # What all processes together keep there for this topic; then new events are refused. Each has 8 MiB at least.
    spool_bytes: int = 1024**3
    # Events of a dead process that are older are kept aside, not sent: the meter may have forgotten their ids.
    spool_max_age_seconds: float = 518_400.0
    # How often the disk is asked to store the spool: what a power loss can lose. 0: when the system likes to.
    spool_fsync_seconds: float = 0.0
    # How long the end of the process may be held up by undelivered events.
    exit_timeout_seconds: float = 5.0
    # More librdkafka properties; they win over ours.
    extra: Mapping[str, str] = field(default_factory=dict)
    # Called with each event before it is stored anywhere; returns the event to send. When it raises, or returns
    # something else, the event goes without metadata, tags and error_message.
    redact: Callable[[UsageEvent], UsageEvent] | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{name} must not be empty"
            for name in ("topic", "alerts_topic", "source")
            if not getattr(self, name)
        ]
        if not all(self.kafka.broker.replace(" ", "").split(",")):
            problems.append(f"broker {self.kafka.broker!r} must be host:port, or several with commas between")
        least = {
            "linger_ms": 0,
            "queue_events": 1,
            "fallback_events": 0,
            "delivery_timeout_seconds": 1,
            "exit_timeout_seconds": 0,
            "spool_bytes": 0,
            "spool_max_age_seconds": 1,
            "spool_fsync_seconds": 0,
        }
        problems += [
            f"{name} = {getattr(self, name)} must be at least {bound}"
            for name, bound in least.items()
            if not getattr(self, name) >= bound
        ]
        if self.linger_ms > _MOST_LINGER_MS:
            problems.append(f"linger_ms = {self.linger_ms} must be at most {_MOST_LINGER_MS}")
        if problems:
            raise SettingsError("; ".join(problems))

    @classmethod
    def from_env(cls, variables: Mapping[str, str] | None = None) -> "ProducerSettings":
        """Read `TOKENTIDE_BROKER`, `TOKENTIDE_KAFKA_*`, `TOKENTIDE_TOPIC_*` and `TOKENTIDE_PRODUCER_*`.

        Raises SettingsError that names every problem.
        """
        environment = Environment(variables)
        defaults = {each.name: each.default for each in fields(cls)}

        def whole(name: str, least: int) -> int:
            default: Any = defaults[name]
            return environment.whole(f"TOKENTIDE_PRODUCER_{name.upper()}", default, least=least)

        def seconds(name: str, least: float) -> float:
            default: Any = defaults[name]
            return environment.number(f"TOKENTIDE_PRODUCER_{name.upper()}", default, least=least)

        topics = TopicNames.read(environment)
        settings: dict[str, Any] = {
            "kafka": KafkaSettings.read(environment),
            "topic": topics.events,
            "alerts_topic": topics.alerts,
            "source": environment.text("TOKENTIDE_PRODUCER_SOURCE", cls.source),
            "linger_ms": whole("linger_ms", 0),
            "queue_events": whole("queue_events", 1),
            "fallback_events": whole("fallback_events", 0),
            "delivery_timeout_seconds": seconds("delivery_timeout_seconds", 1),
            "exit_timeout_seconds": seconds("exit_timeout_seconds", 0),
            "spool_dir": _folder(environment.optional("TOKENTIDE_PRODUCER_SPOOL_DIR")),
            "spool_bytes": whole("spool_bytes", 0),
            "spool_max_age_seconds": seconds("spool_max_age_seconds", 1),
            "spool_fsync_seconds": seconds("spool_fsync_seconds", 0),
        }
        environment.check()
        return cls(**settings)

    @property
    def has_spool(self) -> bool:
        """Whether events are to lie on disk until Kafka has them."""
        return self.spool_dir != NO_SPOOL

    def librdkafka(self) -> dict[str, Any]:
        """Return the properties for confluent-kafka's Producer."""
        return {
            **self.kafka.librdkafka(),
            "client.id": "tokentide-producer",
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": self.linger_ms,
            # As Java clients place a key; librdkafka's own default differs.
            "partitioner": "murmur2_random",
            # 0: never. What lies on disk is never given up.
            "message.timeout.ms": 0 if self.has_spool else int(self.delivery_timeout_seconds * 1000),
            "queue.buffering.max.messages": self.queue_events,
            **self.extra,
        }


def _folder(text: str | None) -> str | None:
    if text is None or text.lower() == NO_SPOOL:
        return text and NO_SPOOL
    # No shell does it for who sets variables in a unit of systemd, or a compose file.
    return os.path.expanduser(text)
