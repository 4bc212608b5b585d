"""The list of failures: Kafka's names are librdkafka's, and every stop that has advice can be shown."""

import pytest
from confluent_kafka import KafkaError

from tokentide.schemas.failures import CLICKHOUSE, KAFKA, Handling, kafka_handling


@pytest.mark.parametrize("code", KAFKA)
def test_the_names_are_those_that_librdkafka_gives_its_codes(code: int) -> None:
    assert getattr(KafkaError, KAFKA[code].name) == code


def test_nothing_of_kafka_is_dead_lettered_and_what_is_unknown_stops() -> None:
    assert {kafka_handling(code) for code in KAFKA} == {Handling.RETRY, Handling.STOP}
    assert kafka_handling(-1) is Handling.STOP


def test_advice_is_for_stops_only() -> None:
    advised = {failure.handling for failure in (*CLICKHOUSE.values(), *KAFKA.values()) if failure.advice}

    assert advised == {Handling.STOP}
    assert all(failure.advice for failure in KAFKA.values() if failure.handling is Handling.STOP)
