"""How to reach Kafka: one object of settings that every part translates for its own client."""

from dataclasses import dataclass

from tokentide.schemas.environment import Environment

__all__ = ["KafkaSettings"]


@dataclass(frozen=True)
class KafkaSettings:
    """Address and credentials of a Kafka cluster."""

    broker: str = "127.0.0.1:9092"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_ca_location: str | None = None

    @classmethod
    def read(cls, environment: Environment) -> "KafkaSettings":
        """Read `TOKENTIDE_BROKER` and `TOKENTIDE_KAFKA_*`."""
        return cls(
            broker=environment.text("TOKENTIDE_BROKER", cls.broker),
            security_protocol=environment.text(
                "TOKENTIDE_KAFKA_SECURITY_PROTOCOL", cls.security_protocol
            ).upper(),
            sasl_mechanism=environment.optional("TOKENTIDE_KAFKA_SASL_MECHANISM"),
            sasl_username=environment.optional("TOKENTIDE_KAFKA_SASL_USERNAME"),
            sasl_password=environment.optional("TOKENTIDE_KAFKA_SASL_PASSWORD"),
            ssl_ca_location=environment.optional("TOKENTIDE_KAFKA_SSL_CA_LOCATION"),
        )

    def librdkafka(self) -> dict[str, str | int | float | bool]:
        """Return the properties for confluent-kafka's clients."""
        values = {
            "bootstrap.servers": self.broker,
            "security.protocol": self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": self.sasl_password,
            "ssl.ca.location": self.ssl_ca_location,
        }
        return {name: value for name, value in values.items() if value is not None}
