"""`tokentide budgets` on a real Kafka."""

import json
import re
from typing import Any

import pytest
from confluent_kafka import Producer
from support.commands import Answer, run

from tokentide.console.budgets import BudgetBook, new_budget, next_revision
from tokentide.console.cli import app
from tokentide.schemas import SettingsError


@pytest.fixture
def pipeline(on_kafka: dict[str, str]) -> dict[str, str]:
    """Variables for a pipeline whose topics exist."""
    assert run("topics", "init", environment=on_kafka).code == 0
    return on_kafka


def budgets(pipeline: dict[str, str], *arguments: str) -> Answer:
    return run("budgets", *arguments, environment=pipeline)


def listed(pipeline: dict[str, str]) -> Any:
    return json.loads(budgets(pipeline, "list", "--json").out)


def test_a_budget_is_set_changed_listed_deleted_and_its_revision_only_grows(pipeline: dict[str, str]) -> None:
    empty = budgets(pipeline, "list")
    first = budgets(pipeline, "set", "ann", "--limit", "12.50", "--user", "ann")
    same = budgets(pipeline, "set", "ann", "--limit", "12.5", "--user", "ann")
    second = budgets(pipeline, "set", "ann", "--limit", "13", "--user", "ann", "--json")
    shown = budgets(pipeline, "list")
    deleted = budgets(pipeline, "delete", "ann")
    again = budgets(pipeline, "delete", "ann")
    third = budgets(pipeline, "set", "ann", "--limit", "13", "--user", "ann", "--json")

    assert empty.out == "There are no budgets; make one with `tokentide budgets set`.\n"
    assert first.out == (
        "Budget ann is set: user ann, 12.50 usd a month, alerts at 75 %, 90 %, 100 % (revision 1).\n"
    )
    assert same.out.startswith("Budget ann is unchanged: user ann, 12.50 usd")
    assert json.loads(second.out)["revision"] == 2
    assert re.search(r"│ ann +│ user +│ ann +│ +13 │ usd +│ month +│ 75 90 100 +│ +2 │", shown.out)
    assert deleted.out == "Budget ann is deleted.\n"
    assert (again.code, again.err) == (
        2,
        "There is no budget ann; `tokentide budgets list` shows those there are.\n",
    )
    assert json.loads(third.out)["revision"] == 3
    assert listed(pipeline) == [json.loads(third.out)]


def test_a_budget_of_tokens_for_a_model_a_day(pipeline: dict[str, str]) -> None:
    done = budgets(
        pipeline,
        *("set", "big", "--scope", "model", "--id", "openai/gpt-4o", "--unit", "tokens", "--period", "day"),
        *("--limit", "1000000", "--threshold", "100", "--threshold", "50", "--threshold", "50"),
    )

    assert (done.code, done.err) == (0, "")
    assert listed(pipeline) == [
        {
            "budget_id": "big",
            "revision": 1,
            "scope": "model",
            "scope_id": "openai/gpt-4o",
            "period": "day",
            "unit": "tokens",
            "limit": "1000000",
            "thresholds": [50, 100],
        }
    ]


def test_a_record_that_is_no_budget_is_named_and_hides_no_other(pipeline: dict[str, str]) -> None:
    topic = pipeline["TOKENTIDE_TOPIC_BUDGETS"]
    budgets(pipeline, "set", "ann", "--limit", "1", "--user", "ann")
    producer = Producer({"bootstrap.servers": pipeline["TOKENTIDE_BROKER"]})
    producer.produce(topic, b"{}", b"odd")
    producer.flush(20)

    shown = budgets(pipeline, "list", "--json")

    assert [budget["budget_id"] for budget in json.loads(shown.out)] == ["ann"]
    assert shown.err.startswith(f"{topic}[0]@1 ('odd') is no budget: budget_id Field required")
    assert shown.code == 0


def test_missing_topics_are_named(on_kafka: dict[str, str]) -> None:
    refused = budgets(on_kafka, "list")

    assert refused.code == 2
    assert refused.err == (
        f"The topic {on_kafka['TOKENTIDE_TOPIC_BUDGETS']} does not exist on {on_kafka['TOKENTIDE_BROKER']}; "
        "create it with `tokentide topics init`.\n"
    )


ONCE = "Say whom the budget is for, once: --user ID, --team ID, or --scope SCOPE with --id ID."


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--user a --limit -3", "This is no budget: limit should be greater than 0."),
        ("--user a --limit=-0.01", "This is no budget: limit should be greater than 0."),
        ("--user a --limit 0", "This is no budget: limit should be greater than 0."),
        ("--user a --limit nan", "This is no budget: limit should be a finite number."),
        ("--user a --limit 1e-13", "This is no budget: limit should have no more than 12 decimal places."),
        ("--user a --limit much", "--limit must be a number like 12.50, not 'much'."),
        ("--user a --limit 1 --period year", "--period must be day or month, not 'year'."),
        ("--user a --limit 1 --period hour", "--period must be day or month, not 'hour'."),
        ("--user a --limit 1 --unit eur", "--unit must be usd or tokens, not 'eur'."),
        (
            "--scope planet --id x --limit 1",
            "--scope must be user, team, org, provider, model or operation, not 'planet'.",
        ),
        (
            "--user a --limit 1.5 --unit tokens",
            "This is no budget: a limit in tokens must be a whole number.",
        ),
        (
            "--user a --limit 1 --threshold 0",
            "This is no budget: thresholds.0 should be greater than or equal to 1.",
        ),
        ("--limit 1", ONCE),
        ("--user a --team b --limit 1", ONCE),
        ("--user a --scope team --id b --limit 1", ONCE),
        ("--user a --scope team --limit 1", ONCE),
        ("--user a --id b --limit 1", ONCE),
        ("--scope team --limit 1", ONCE),
        ("--id b --limit 1", ONCE),
    ],
)
def test_a_wrong_budget_is_refused_in_one_sentence_before_kafka_is_asked(
    arguments: str, sentence: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        app(
            ["budgets", "set", "b", *arguments.split(), "--broker", "127.0.0.1:1"],
            standalone_mode=False,
        )

    assert str(refused.value) == sentence


def test_a_negative_limit_ends_the_command_with_code_2_and_one_sentence() -> None:
    refused = run("budgets", "set", "b", "--user", "a", "--limit", "-3", "--broker", "127.0.0.1:1")

    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "This is no budget: limit should be greater than 0.\n"


def test_a_budget_without_a_name_or_an_entity_is_refused() -> None:
    with pytest.raises(SettingsError, match="budget_id should have at least 1 character; scope_id should"):
        new_budget(budget_id="", scope="user", scope_id="", limit=1)


def test_a_book_takes_the_last_record_of_an_id_and_remembers_deleted_revisions() -> None:
    book = BudgetBook()
    budget = new_budget(budget_id="b", scope="team", scope_id="core", limit=5)

    book.apply(b"b", budget.model_copy(update={"revision": 7}).model_dump_json().encode(), {}, "t[0]@0")
    assert next_revision(book, budget) is None
    book.apply(b"b", None, {"tokentide-revision": b"7"}, "t[0]@1")

    assert book.budgets == {}
    assert next_revision(book, budget) == budget.model_copy(update={"revision": 8})


def test_a_tombstone_of_another_writer_deletes_as_well() -> None:
    book = BudgetBook()
    budget = new_budget(budget_id="b", scope="team", scope_id="core", limit=5)
    book.apply(b"b", budget.model_dump_json().encode(), {}, "t[0]@0")

    book.apply(b"b", None, {"tokentide-revision": b"x"}, "t[0]@1")

    assert book.budgets == {}
    assert book.revisions == {"b": 1}
