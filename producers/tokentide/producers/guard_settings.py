"""The settings of the guard."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from tokentide.schemas import Environment, KafkaSettings, SettingsError, TopicNames

__all__ = ["GuardSettings", "Policy"]

Policy = Literal["open", "closed"]
"""What happens to a call when its limits are not known: it is allowed, or refused."""


@dataclass(frozen=True)
class GuardSettings:
    """How a service asks what its users may still spend.

    Raises SettingsError that names every wrong value.
    """

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topic: str = TopicNames().limits
    # A call that is estimated to use more tokens is refused; 0: any size is allowed.
    max_tokens_per_request: int = 0
    # Limits are not known any more when Kafka, or the meter, was silent for so long. The meter repeats every
    # live limit once a minute.
    stale_seconds: float = 180.0
    when_stale: Policy = "open"

    def __post_init__(self) -> None:
        problems = []
        if not self.topic:
            problems.append("topic must not be empty")
        if self.max_tokens_per_request < 0:
            problems.append(f"max_tokens_per_request = {self.max_tokens_per_request} must be at least 0")
        if not self.stale_seconds >= 1:
            problems.append(f"stale_seconds = {self.stale_seconds} must be at least 1")
        if self.when_stale not in get_args(Policy):
            problems.append(f"when_stale = {self.when_stale!r} must be open or closed")
        if problems:
            raise SettingsError("; ".join(problems))

    @classmethod
    def from_env(cls, variables: Mapping[str, str] | None = None) -> "GuardSettings":
        """Read `TOKENTIDE_BROKER`, `TOKENTIDE_KAFKA_*`, `TOKENTIDE_TOPIC_LIMITS` and `TOKENTIDE_GUARD_*`.

        Raises SettingsError that names every problem.
        """
        environment = Environment(variables)
        when_stale = environment.text("TOKENTIDE_GUARD_WHEN_STALE", cls.when_stale)
        settings: dict[str, Any] = {
            "kafka": KafkaSettings.read(environment),
            "topic": TopicNames.read(environment).limits,
            "max_tokens_per_request": environment.whole(
                "TOKENTIDE_GUARD_MAX_TOKENS_PER_REQUEST", cls.max_tokens_per_request
            ),
            "stale_seconds": environment.number("TOKENTIDE_GUARD_STALE_SECONDS", cls.stale_seconds, least=1),
            "when_stale": cast(Policy, when_stale.lower()),
        }
        environment.check()
        return cls(**settings)

    def librdkafka(self) -> dict[str, Any]:
        """Return the properties for confluent-kafka's Consumer: it joins no group and commits nothing."""
        return {
            **self.kafka.librdkafka(),
            "client.id": "tokentide-guard",
            "group.id": "tokentide-guard",  # librdkafka wants a name; nothing is ever stored under it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "queued.min.messages": 10_000,
            "queued.max.messages.kbytes": 8192,
        }
