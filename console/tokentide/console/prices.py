"""Own prices as people set them: read whole from `usage.prices`, written as one more record."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from confluent_kafka import Message
from pydantic import ValidationError

from tokentide.console.control import problem_words, read_control
from tokentide.console.publish import Outgoing, publish
from tokentide.schemas import KafkaSettings, PriceOverride, SettingsError

__all__ = ["PriceList", "new_price", "read_prices", "write_price"]


@dataclass
class PriceList:
    """The overrides that hold, by model and moment, and what could not be read."""

    prices: dict[tuple[str, datetime], PriceOverride] = field(default_factory=dict)
    """By `provider/model` and `valid_from`, without those that were withdrawn."""
    problems: list[str] = field(default_factory=list)

    def apply(self, value: bytes | None, where: str) -> None:
        """Take in the next record of the topic; one that is no override becomes a problem."""
        try:
            price = PriceOverride.model_validate_json(value or b"")
        except ValidationError as error:
            self.problems.append(f"{where} is no price: {problem_words(error)}")
            return
        place = (price.key(), price.valid_from)
        if price.withdrawn:
            self.prices.pop(place, None)
        else:
            self.prices[place] = price

    def ordered(self) -> list[PriceOverride]:
        """Return the overrides by model, each model's by the moment from which it holds."""
        return [self.prices[place] for place in sorted(self.prices)]

    def choose(self, key: str, valid_from: datetime | None) -> PriceOverride:
        """Return the override of a model; raises SettingsError when there is none, or when several are meant."""
        found = [price for price in self.ordered() if price.key() == key]
        named = [price for price in found if valid_from in (None, price.valid_from)]
        if len(named) == 1:
            return named[0]
        moments = ", ".join(price.valid_from.isoformat() for price in found)
        if not found:
            raise SettingsError(
                f"There is no own price of {key}; `tokentide prices list` shows those there are."
            )
        raise SettingsError(f"Name one of the own prices of {key} with --from: they hold from {moments}.")


def new_price(**fields: Any) -> PriceOverride:
    """Return the override with these fields; raises SettingsError that says in one sentence what is wrong."""
    try:
        return PriceOverride(**fields)
    except ValidationError as error:
        raise SettingsError(f"This is no price: {problem_words(error)}.") from error


def read_prices(kafka: KafkaSettings, topic: str) -> PriceList:
    """Return what the whole topic says now; joins no group and commits nothing.

    Raises ServiceUnavailableError when Kafka does not answer, SettingsError when the topic does not exist.
    """
    prices = PriceList()
    for message in read_control(kafka, topic):
        _take(prices, message)
    return prices


def write_price(kafka: KafkaSettings, topic: str, price: PriceOverride) -> None:
    """Return when the override is stored by all in-sync replicas; raises ServiceUnavailableError when it is not."""
    publish(kafka, topic, [Outgoing(price.key().encode(), price.model_dump_json().encode())], "try again")


def _take(prices: PriceList, message: Message) -> None:
    value = message.value()
    where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
    prices.apply(value if isinstance(value, bytes) else None, where)
