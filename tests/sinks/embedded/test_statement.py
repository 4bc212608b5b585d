"""A statement is read as ClickHouse reads it: where its rows begin, and what is a word and what is a text."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokentide.sinks.embedded.gate import IS_SUSPECT
from tokentide.sinks.embedded.statement import Statement, find_inline_data

NOISE = ["", " ", "\n", "/* VALUES /* FORMAT CSV */ */", "-- VALUES\n", "# FORMAT x\n"]
TABLES = ["t", "`VALUES`", '"a b"', "db.t", "`db`.`FORMAT`", "TABLE t", "values.format"]
COLUMNS = ["", "(a, b)", '(`values`, "format")', "(* EXCEPT(`select`))"]


@given(
    noise=st.lists(st.sampled_from([*NOISE, " SETTINGS a = 1 "]), min_size=3, max_size=3).filter(
        lambda noise: not any("SETTINGS" in part for part in noise[:2])
    ),
    table=st.sampled_from(TABLES),
    columns=st.sampled_from(COLUMNS),
    clause=st.sampled_from(
        [("VALUES", "Values"), ("FORMAT CSV\n", "CSV"), ("format JSONEachRow ", "JSONEachRow")]
    ),
    rows=st.text(min_size=1).filter(lambda text: not text[0].isspace()),
)
def test_the_rows_of_an_insert_begin_behind_its_format(
    noise: list[str], table: str, columns: str, clause: tuple[str, str], rows: str
) -> None:
    head = f"{noise[0]}INSERT {noise[1]} INTO {table} {columns} {noise[2]} "
    rows = f"({rows}" if clause[1] == "Values" else rows
    sql = f"{head}{clause[0]}{rows}".encode()

    data = find_inline_data(sql)

    assert data is not None
    assert (data.head + data.settings, data.format) == (head.encode(), clause[1])
    assert sql[data.start :] == rows.encode()


@pytest.mark.parametrize(
    "sql",
    [
        b"INSERT INTO t SELECT * FROM x FORMAT CSV",
        b"INSERT INTO t (a) WITH 1 AS b SELECT b",
        b"SELECT 'INSERT INTO t VALUES'",
        b"CREATE TABLE values (format String)",
        b"",
    ],
)
def test_a_statement_without_rows_has_none(sql: bytes) -> None:
    assert find_inline_data(sql) is None


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (b"SELECT 1 FORMAT CSV", "CSV"),
        (b"SELECT 1 format Native SETTINGS a = 1", "Native"),
        (b"SELECT 1 FORMAT `JSON`;", "JSON"),
        (b"SELECT ' FORMAT CSV'", None),
        (b"SELECT $a$ FORMAT CSV $a$", None),
        (b"SELECT 1 -- FORMAT CSV", None),
        (b"SELECT format('{}', 1) AS format", None),
    ],
)
def test_the_output_format_is_that_of_the_clause(sql: bytes, expected: str | None) -> None:
    assert Statement(sql).output_format == expected


@given(
    st.lists(
        st.sampled_from(
            ["'", "\\", '"', "`", "$", "$a$", "/*", "*/", "--", "\n", "“", "”", "‘", "a", " ", "("]
        )
    )
)
def test_every_byte_of_any_text_belongs_to_some_token(parts: list[str]) -> None:
    sql = "".join(parts).encode()

    tokens = Statement(sql).tokens

    assert all(before.end < after.end for before, after in pairwise(tokens))
    assert not tokens or tokens[-1].end <= len(sql)


@pytest.mark.parametrize("part", ["'\\'", "$a$ $b$", "“", "/*", "`\\`", '"\\"'])
def test_what_is_not_closed_costs_no_more_than_its_length(part: str) -> None:
    sql = ("SELECT " + part * 50_000).encode()

    began = time.process_time()
    Statement(sql).tokens  # noqa: B018

    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "sql", ["SELECT `f\\x69le`(1)", "SELECT FILE(1)", "x format/**/(1)", "ENGINE = x", "disk(1)"]
)
def test_what_may_reach_outside_is_looked_at_closely(sql: str) -> None:
    assert IS_SUSPECT.search(sql.encode())
    assert not IS_SUSPECT.search(b"SELECT sum(cost) FROM usage FORMAT Native")
