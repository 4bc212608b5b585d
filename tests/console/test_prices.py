"""`tokentide prices` on a real Kafka."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer
from support.commands import Answer, run


@pytest.fixture
def pipeline(on_kafka: dict[str, str]) -> dict[str, str]:
    """Variables for a pipeline whose topics exist."""
    assert run("topics", "init", environment=on_kafka).code == 0
    return on_kafka


def prices(pipeline: dict[str, str], *arguments: str) -> Answer:
    return run("prices", *arguments, environment=pipeline)


def listed(pipeline: dict[str, str]) -> Any:
    return json.loads(prices(pipeline, "list", "--json").out)


GPT = ("set", "openai/gpt-4o", "--input", "2", "--output", "8.5", "--from", "2026-12-01")


def test_a_price_is_set_changed_listed_and_removed(pipeline: dict[str, str]) -> None:
    empty = prices(pipeline, "list")
    first = prices(pipeline, *GPT)
    same = prices(pipeline, *GPT)
    changed = prices(pipeline, *GPT, "--cache-read", "0.000001", "--per-request", "0.01", "--json")
    shown = prices(pipeline, "list")
    removed = prices(pipeline, "remove", "openai/gpt-4o")
    again = prices(pipeline, "remove", "openai/gpt-4o")

    assert (
        empty.out == "There are no own prices; the catalogue holds. Make one with `tokentide prices set`.\n"
    )
    assert first.out == (
        "The price of openai/gpt-4o is set: 2 USD for a million tokens of input, 8.5 of output, 2 read from and 2 "
        "written to a cache, for events from 2026-12-01T00:00:00+00:00 on.\n"
    )
    assert same.out.startswith("The price of openai/gpt-4o is unchanged: ")
    assert json.loads(changed.out)["cache_read_usd_per_mtok"] == "0.000001"
    row = r"│ openai/gpt-4o │ 2026-12-01T00:00:00\+00:00 │ +2 │ +8.5 │ +0.000001 │ +2 │ +0.01 │"
    assert re.search(row, shown.out)
    assert removed.out == "The price of openai/gpt-4o from 2026-12-01T00:00:00+00:00 is removed.\n"
    assert (again.code, again.err) == (
        2,
        "There is no own price of openai/gpt-4o; `tokentide prices list` shows those there are.\n",
    )
    assert listed(pipeline) == []


def test_a_price_holds_from_now_on_unless_told(pipeline: dict[str, str]) -> None:
    done = prices(pipeline, "set", "Claude/claude-own", "--input", "0", "--output", "0")

    [price] = listed(pipeline)
    assert done.code == 0
    assert (price["provider"], price["model"]) == ("anthropic", "claude-own")
    age = datetime.now(UTC) - datetime.fromisoformat(price["valid_from"])
    assert timedelta(0) <= age < timedelta(seconds=60)


def test_one_of_several_must_be_named(pipeline: dict[str, str]) -> None:
    for start in ("2026-12-01", "2026-12-24T10:00+01:00"):
        prices(pipeline, "set", "acme/a/b", "--input", "1", "--output", "1", "--from", start)

    unclear = prices(pipeline, "remove", "acme/a/b")
    done = prices(pipeline, "remove", "acme/a/b", "--from", "2026-12-24T09:00Z")

    assert (unclear.code, unclear.err) == (
        2,
        "Name one of the own prices of acme/a/b with --from: they hold from 2026-12-01T00:00:00+00:00, "
        "2026-12-24T09:00:00+00:00.\n",
    )
    assert done.code == 0
    assert [price["valid_from"] for price in listed(pipeline)] == ["2026-12-01T00:00:00Z"]


def test_a_record_that_is_no_price_is_named_and_hides_no_other(pipeline: dict[str, str]) -> None:
    topic = pipeline["TOKENTIDE_TOPIC_PRICES"]
    prices(pipeline, *GPT)
    producer = Producer({"bootstrap.servers": pipeline["TOKENTIDE_BROKER"]})
    producer.produce(topic, b"{}", b"odd")
    producer.flush(20)

    shown = prices(pipeline, "list", "--json")

    assert [price["model"] for price in json.loads(shown.out)] == ["gpt-4o"]
    assert shown.err.startswith(f"{topic}[0]@1 is no price: provider Field required")
    assert shown.code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            "gpt-4o --input 1 --output 1",
            "Name the model as provider/model, like openai/gpt-4o, not 'gpt-4o'.",
        ),
        ("a/b --input x --output 1", "--input must be a number of USD like 2.50, not 'x'."),
        (
            "a/b --input -1 --output 1",
            "This is no price: input_usd_per_mtok should be greater than or equal to 0.",
        ),
        (
            "a/b --input 1 --output 0.0000001",
            "This is no price: output_usd_per_mtok should have no more than 6 decimal places.",
        ),
        (
            "a/b --input 1 --output 1 --from soon",
            "--from must be a time like 2026-12-01T08:00Z, not 'soon'.",
        ),
        (
            "a/b --input 1 --output 1 --from 1999-01-01",
            "This is no price: valid_from must lie between the years 2010 and 2100; send the time of the call, with "
            "its zone.",
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence(arguments: str, sentence: str) -> None:
    refused = run("prices", "set", *arguments.split(), environment={"TOKENTIDE_BROKER": "127.0.0.1:1"})

    assert (refused.code, refused.out, refused.err) == (2, "", sentence + "\n")


def test_missing_topics_are_named(on_kafka: dict[str, str]) -> None:
    refused = prices(on_kafka, *GPT)

    assert refused.code == 2
    assert refused.err == (
        f"The topic {on_kafka['TOKENTIDE_TOPIC_PRICES']} does not exist on {on_kafka['TOKENTIDE_BROKER']}; "
        "create it with `tokentide topics init`.\n"
    )
