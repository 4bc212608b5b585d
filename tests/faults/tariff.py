"""The own prices of a seed, as they are written to `usage.prices`."""

from datetime import datetime, timedelta
from decimal import Decimal

from confluent_kafka import KafkaError, Message, Producer
from support.traffic import new_producer

from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import PriceOverride, ServiceUnavailableError

__all__ = ["Tariff"]

_WRITE_SECONDS = 90.0


class Tariff:
    """Writes own prices, however long the broker is away."""

    def __init__(self, settings: ConsoleSettings, end: datetime) -> None:
        """`end` is the moment that minutes are counted from: the last one of the traffic."""
        self._settings = settings
        self._end = end
        self.written = 0

    def change(self, model: str, detail: str) -> None:
        """Write the price of a model: `detail` is the `detail` of a fault. Raises ServiceUnavailableError."""
        said = dict(pair.split("=") for pair in detail.split())
        provider, _, name = model.partition("/")
        price = PriceOverride(
            provider=provider,
            model=name,
            valid_from=self._end + timedelta(minutes=int(said["minutes"])),
            input_usd_per_mtok=Decimal(said["input"]),
            output_usd_per_mtok=Decimal(said["output"]),
            cache_read_usd_per_mtok=Decimal(said["cached"]) if "cached" in said else None,
            usd_per_request=Decimal(said.get("request", "0")),
            withdrawn="withdrawn" in said,
        )
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        producer: Producer = new_producer(self._settings.kafka.broker)
        producer.produce(
            self._settings.topics.prices, price.model_dump_json().encode(), price.key(), on_delivery=delivered
        )
        if producer.flush(_WRITE_SECONDS) or failures:
            raise ServiceUnavailableError(f"the price of {model} was not written: {failures}")
        self.written += 1
