"""Settings from environment variables: typed, with every problem at once."""

import pytest

from tokentide.schemas import Environment, KafkaSettings, SettingsError


def test_a_missing_and_an_empty_variable_give_the_default() -> None:
    environment = Environment({"EMPTY": ""})

    assert environment.text("EMPTY", "a") == environment.text("MISSING", "a") == "a"
    assert environment.optional("EMPTY") is environment.optional("MISSING") is None
    assert environment.whole("EMPTY", 3) == environment.whole("MISSING", 3) == 3
    assert environment.number("EMPTY", 1.5) == environment.number("MISSING", 1.5) == 1.5
    environment.check()


def test_numbers_are_read() -> None:
    environment = Environment({"WHOLE": "1_000", "NUMBER": "1e-3", "ZERO": "0"})

    assert environment.whole("WHOLE", 1) == 1000
    assert environment.number("NUMBER", 1.0) == 0.001
    assert environment.whole("ZERO", 1, least=0) == 0
    environment.check()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_is_finite(text: str) -> None:
    environment = Environment({"SECONDS": text})

    environment.number("SECONDS", 1.0)

    with pytest.raises(SettingsError, match="SECONDS="):
        environment.check()


def test_all_problems_are_named_at_once() -> None:
    environment = Environment({"A": "x", "B": "1.5", "C": "-1", "D": "y"})
    environment.whole("A", 1)
    environment.whole("B", 1)
    environment.number("C", 1.0, least=0)
    environment.number("D", 1.0)

    with pytest.raises(SettingsError) as refused:
        environment.check()

    assert str(refused.value) == (
        "A='x' is not a whole number; B='1.5' is not a whole number; C='-1' must be at least 0; D='y' is not a number"
    )


def test_only_what_is_set_is_given_to_librdkafka() -> None:
    plain = KafkaSettings.read(Environment({}))
    secure = KafkaSettings.read(
        Environment(
            {
                "TOKENTIDE_BROKER": "kafka:9093",
                "TOKENTIDE_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
                "TOKENTIDE_KAFKA_SASL_MECHANISM": "PLAIN",
                "TOKENTIDE_KAFKA_SASL_USERNAME": "ann",
                "TOKENTIDE_KAFKA_SASL_PASSWORD": "secret",
                "TOKENTIDE_KAFKA_SSL_CA_LOCATION": "/ca.pem",
            }
        )
    )

    assert plain.librdkafka() == {"bootstrap.servers": "127.0.0.1:9092", "security.protocol": "PLAINTEXT"}
    assert secure.librdkafka() == {
        "bootstrap.servers": "kafka:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "ann",
        "sasl.password": "secret",
        "ssl.ca.location": "/ca.pem",
    }
