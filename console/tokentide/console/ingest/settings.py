"""The settings of the HTTP door."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

from tokentide.producers import ProducerSettings
from tokentide.schemas import Environment, KafkaSettings, SettingsError, TopicNames
from tokentide.streams.settings import MeterSettings

__all__ = ["SOURCE", "IngestSettings", "base_url"]

SOURCE = "tokentide/ingest"
"""CloudEvents source of events that name no service."""

_LINGER_MS = 5
_MOST_QUEUED_EVENTS = 10_000_000


def base_url(host: str, port: int) -> str:
    """Return the URL of a door that listens there, without a path; an IPv6 address stands in brackets."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@dataclass(frozen=True)
class IngestSettings:
    """Where the door listens, who may come in, and how much at once."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topic: str = TopicNames().events
    host: str = "127.0.0.1"
    port: int = 8090
    """0 takes a free one."""
    key: str | None = None
    """A secret that may send for everybody."""
    keys_file: Path | None = None
    """TOML with more keys, each with a name, and bound to a service or a team if it says so."""
    max_body_bytes: int = 4 * 1024 * 1024
    max_in_flight_bytes: int = 64 * 1024 * 1024
    """Bodies that are not answered yet, together; a request beyond that is told to come again."""
    ack_timeout_seconds: float = 10.0
    """How long Kafka may take to store the events of a request."""
    max_future_seconds: int = MeterSettings.max_future_seconds
    """The meter's own: what it would reject later is refused at the door."""

    @classmethod
    def from_env(
        cls,
        variables: Mapping[str, str] | None = None,
        *,
        broker: str | None = None,
        host: str | None = None,
        port: int | None = None,
    ) -> "IngestSettings":
        """Read `TOKENTIDE_*`; an argument that is not None wins over its variable.

        Raises SettingsError that names every problem.
        """
        environment = Environment(variables)
        kafka = KafkaSettings.read(environment)
        keys_file = environment.optional("TOKENTIDE_INGEST_KEYS_FILE")
        settings = cls(
            kafka=replace(kafka, broker=broker or kafka.broker),
            topic=TopicNames.read(environment).events,
            host=host or environment.text("TOKENTIDE_INGEST_HOST", cls.host),
            port=environment.whole("TOKENTIDE_INGEST_PORT", cls.port),
            key=environment.optional("TOKENTIDE_INGEST_KEY"),
            keys_file=Path(keys_file) if keys_file else None,
            max_body_bytes=environment.whole(
                "TOKENTIDE_INGEST_MAX_BODY_BYTES", cls.max_body_bytes, least=1024
            ),
            max_in_flight_bytes=environment.whole(
                "TOKENTIDE_INGEST_MAX_IN_FLIGHT_BYTES", cls.max_in_flight_bytes, least=1024
            ),
            ack_timeout_seconds=environment.number(
                "TOKENTIDE_INGEST_ACK_TIMEOUT_SECONDS", cls.ack_timeout_seconds, least=0.1
            ),
            max_future_seconds=environment.whole("TOKENTIDE_MAX_FUTURE_SECONDS", cls.max_future_seconds),
        )
        environment.check()
        if settings.max_in_flight_bytes < settings.max_body_bytes:
            raise SettingsError(
                f"TOKENTIDE_INGEST_MAX_IN_FLIGHT_BYTES={settings.max_in_flight_bytes} is less than "
                f"TOKENTIDE_INGEST_MAX_BODY_BYTES={settings.max_body_bytes}: the largest body would never get in"
            )
        return settings if port is None else replace(settings, port=port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the door."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def producer(self) -> ProducerSettings:
        """Return how events are sent: as the SDK does, but within the time that a request has."""
        return ProducerSettings(
            kafka=self.kafka,
            topic=self.topic,
            source=SOURCE,
            linger_ms=_LINGER_MS,
            # What is in flight is bounded in bytes, before it comes here.
            queue_events=_MOST_QUEUED_EVENTS,
            delivery_timeout_seconds=max(1.0, self.ack_timeout_seconds),
            extra={
                "message.timeout.ms": str(int(self.ack_timeout_seconds * 1000)),
                "reconnect.backoff.ms": "50",
                "reconnect.backoff.max.ms": "1000",
            },
        )
