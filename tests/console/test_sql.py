"""`tokentide sql` and `tokentide migrate` on the embedded ClickHouse in a process of its own."""

import json
import subprocess

import pytest
from support.commands import COMMAND, Answer, run, variables


@pytest.fixture
def database(on_clickhouse: dict[str, str]) -> dict[str, str]:
    """Variables for a database that is migrated."""
    assert run("migrate", environment=on_clickhouse).code == 0
    return on_clickhouse


def sql(database: dict[str, str], *arguments: str) -> Answer:
    return run("sql", *arguments, environment=database)


def test_migrate_names_what_it_applied_and_a_second_run_applies_nothing(
    on_clickhouse: dict[str, str],
) -> None:
    first = run("migrate", environment=on_clickhouse)
    second = run("migrate", "--json", environment=on_clickhouse)

    *applied, last = first.out.splitlines()
    assert (first.code, first.err) == (0, "")
    assert applied[0] == "applied  0001_usage_events.sql"
    assert last == (
        f"The database {on_clickhouse['TOKENTIDE_CLICKHOUSE_DATABASE']} at "
        f"{on_clickhouse['TOKENTIDE_CLICKHOUSE_URL']} is up to date."
    )
    assert json.loads(second.out) == {"applied": []}


def test_a_table_shows_numbers_in_full_and_folds_nothing_in_a_pipe(database: dict[str, str]) -> None:
    name = "a-name-as-long-as-no-terminal-is-wide-" * 6

    shown = sql(database, f"SELECT '{name}' AS who, toDecimal128('0.00000015', 12) AS cost, NULL AS why")

    assert (shown.code, shown.err) == (0, "")
    assert f"│ {name} │ 0.00000015 │ -   │" in shown.out
    assert shown.out.endswith("\n1 row\n")


def test_an_answer_without_rows_shows_its_columns(database: dict[str, str]) -> None:
    shown = sql(database, "SELECT user_id, cost_usd FROM usage LIMIT 0")

    assert "user_id" in shown.out
    assert shown.out.endswith("\n0 rows\n")


def test_json_and_format_print_the_bytes_of_clickhouse(database: dict[str, str]) -> None:
    as_json = sql(database, "SELECT 1 AS a", "--json")
    as_csv = sql(database, "SELECT 1 AS a, 'x' AS b", "--format", "CSVWithNames")
    own = sql(database, "SELECT 1 AS a FORMAT JSONEachRow;")

    assert json.loads(as_json.out)["data"] == [{"a": 1}]
    assert as_csv.out == '"a","b"\n1,"x"\n'
    assert json.loads(own.out) == {"a": 1}


def test_statements_without_an_answer_say_that_they_are_done(database: dict[str, str]) -> None:
    created = sql(database, "CREATE TABLE x (a Int8) ENGINE = Memory")
    inserted = sql(database, "INSERT INTO x VALUES (1), (2)")
    counted = sql(database, "SELECT sum(a) FROM x;", "--format", "TSV")

    assert (created.out, inserted.out, counted.out) == ("Done.\n", "Done.\n", "3\n")


def test_a_reader_that_has_seen_enough_is_no_error(database: dict[str, str]) -> None:
    command = [*COMMAND, "sql", "SELECT number FROM numbers(1000000)", "--format", "TSV"]
    asked = subprocess.Popen(
        command, env=variables(**database), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert asked.stdout is not None
    assert asked.stderr is not None

    assert asked.stdout.readline() == b"0\n"
    asked.stdout.close()

    with asked.stderr as errors:
        assert errors.read() == b""
    assert asked.wait(30) in (0, 1)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "Syntax error: failed at position 1 (SELEC)"),
        ("SELECT nope FROM usage", "Unknown expression identifier `nope`"),
        ("SELECT 1; SELECT 2", "Multi-statements are not allowed"),
    ],
)
def test_a_wrong_query_gets_clickhouses_words_in_one_sentence(
    database: dict[str, str], query: str, words: str
) -> None:
    refused = sql(database, query)

    assert (refused.code, refused.out) == (1, "")
    assert words in refused.err
    assert refused.err.endswith("; mend the query\n")
    assert refused.err.count("\n") == 1
    assert len(refused.err) < 300


def test_wrong_use_is_refused_before_clickhouse_is_asked(database: dict[str, str]) -> None:
    empty = sql(database, "  ")
    both = sql(database, "SELECT 1", "--json", "--format", "CSV")

    assert (empty.code, both.code) == (2, 2)
    assert empty.err.startswith("The query is empty; ask like `tokentide sql 'SELECT")
    assert both.err == "--json is short for --format JSON; give one of them.\n"


def test_a_database_that_is_not_migrated_says_what_to_run(on_clickhouse: dict[str, str]) -> None:
    refused = sql(on_clickhouse, "SELECT count() FROM usage")

    assert refused.code == 1
    assert "does not exist" in refused.err
    assert refused.err.endswith("run `tokentide migrate`\n")


@pytest.mark.parametrize("command", [("sql", "SELECT 1"), ("migrate",)])
def test_a_refused_password_is_said_with_the_variable_that_holds_it(
    database: dict[str, str], command: tuple[str, ...]
) -> None:
    refused = run(*command, environment=database | {"TOKENTIDE_CLICKHOUSE_PASSWORD": "wrong"})

    assert refused.code == 1
    assert refused.err == (
        f"ClickHouse at {database['TOKENTIDE_CLICKHOUSE_URL']} refused the password of user tide: set "
        "TOKENTIDE_CLICKHOUSE_PASSWORD\n"
    )


@pytest.mark.parametrize("command", [("sql", "SELECT 1"), ("migrate",)])
def test_an_unreachable_clickhouse_is_one_sentence(command: tuple[str, ...]) -> None:
    refused = run(*command, "--clickhouse", "http://127.0.0.1:1")

    assert refused.code == 1
    assert refused.err == (
        "ClickHouse at http://127.0.0.1:1 does not answer (Connection refused): start it, or set "
        "TOKENTIDE_CLICKHOUSE_URL\n"
    )
    assert refused.seconds < 10


def test_an_address_that_is_no_url_is_wrong_use() -> None:
    refused = run("sql", "SELECT 1", "--clickhouse", "127.0.0.1:8123")

    assert refused.code == 2
    assert "must look like http://127.0.0.1:8123" in refused.err
