"""The settings of the `tokentide` command, and the environment that its child processes get."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

from tokentide.schemas import Environment, KafkaSettings, SettingsError, TopicNames, TopicPlan, plan_topics
from tokentide.sinks.settings import ClickHouseSettings

__all__ = ["ConsoleSettings"]


@dataclass(frozen=True)
class ConsoleSettings:
    """Where Kafka and ClickHouse are, and how the pipeline's topics and groups are named."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topics: TopicNames = field(default_factory=TopicNames)
    clickhouse: ClickHouseSettings = field(default_factory=ClickHouseSettings)
    meter_id: str = "tokentide-meter"
    sink_id: str = "tokentide-sink"
    partitions: int = 4
    # Written by services, read by who needs balances; no part of the pipeline.
    credits_topic: str = "usage.credits"

    @classmethod
    def from_env(
        cls,
        variables: Mapping[str, str] | None = None,
        *,
        broker: str | None = None,
        clickhouse_url: str | None = None,
        partitions: int | None = None,
    ) -> Self:
        """Read `TOKENTIDE_*`; an argument that is not None wins over its variable.

        Raises SettingsError that names every problem of the variables at once.
        """
        environment = Environment(variables)
        read = cls(
            kafka=KafkaSettings.read(environment),
            topics=TopicNames.read(environment),
            clickhouse=ClickHouseSettings.read(environment),
            meter_id=environment.text("TOKENTIDE_METER_ID", cls.meter_id),
            sink_id=environment.text("TOKENTIDE_SINK_ID", cls.sink_id),
            partitions=environment.whole("TOKENTIDE_PARTITIONS", cls.partitions, least=1),
            credits_topic=environment.text("TOKENTIDE_TOPIC_CREDITS", cls.credits_topic),
        )
        environment.check()
        if partitions is not None and partitions < 1:
            raise SettingsError(f"--partitions must be at least 1, not {partitions}.")
        return replace(
            read,
            kafka=replace(read.kafka, broker=broker or read.kafka.broker),
            clickhouse=replace(read.clickhouse, url=clickhouse_url or read.clickhouse.url),
            partitions=partitions or read.partitions,
        )

    def topic_plans(self) -> list[TopicPlan]:
        """Return every topic that the pipeline and the services need."""
        kept_for_ever = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
        credits = TopicPlan(self.credits_topic, 1, kept_for_ever)
        return [*plan_topics(self.topics, self.meter_id, self.partitions), credits]

    def environment(self) -> dict[str, str]:
        """Return the variables from which `from_env` reads equal settings again, in another process."""
        return {name: value for name, value in self._variables().items() if value}

    @classmethod
    def variable_names(cls) -> frozenset[str]:
        """Return the names of all variables that `environment` may set."""
        return frozenset(cls()._variables())

    def _variables(self) -> dict[str, str | None]:
        return {
            "TOKENTIDE_BROKER": self.kafka.broker,
            "TOKENTIDE_KAFKA_SECURITY_PROTOCOL": self.kafka.security_protocol,
            "TOKENTIDE_KAFKA_SASL_MECHANISM": self.kafka.sasl_mechanism,
            "TOKENTIDE_KAFKA_SASL_USERNAME": self.kafka.sasl_username,
            "TOKENTIDE_KAFKA_SASL_PASSWORD": self.kafka.sasl_password,
            "TOKENTIDE_KAFKA_SSL_CA_LOCATION": self.kafka.ssl_ca_location,
            "TOKENTIDE_CLICKHOUSE_URL": self.clickhouse.url,
            "TOKENTIDE_CLICKHOUSE_USER": self.clickhouse.user,
            "TOKENTIDE_CLICKHOUSE_PASSWORD": self.clickhouse.password,
            "TOKENTIDE_CLICKHOUSE_DATABASE": self.clickhouse.database,
            "TOKENTIDE_METER_ID": self.meter_id,
            "TOKENTIDE_SINK_ID": self.sink_id,
            "TOKENTIDE_PARTITIONS": str(self.partitions),
            "TOKENTIDE_TOPIC_CREDITS": self.credits_topic,
            **{
                f"TOKENTIDE_TOPIC_{topic.name.upper()}": getattr(self.topics, topic.name)
                for topic in fields(self.topics)
            },
        }
