"""What a client sees of a refusal: the code, the text, the HTTP status, and a connection it can go on with."""

import threading
import time
from contextlib import closing
from http.client import IncompleteRead
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sinks.conftest import Server
    from sinks.embedded.conftest import Http


@pytest.mark.parametrize(
    ("sql", "code", "status", "name"),
    [
        ("SELECT * FROM no_such_table", 60, 404, "UNKNOWN_TABLE"),
        ("SELECT * FROM no_such_database.t", 81, 404, "UNKNOWN_DATABASE"),
        ("SELECT no_such_column FROM system.one", 47, 404, "UNKNOWN_IDENTIFIER"),
        ("SELECT no_such_function()", 46, 404, "UNKNOWN_FUNCTION"),
        ("SELEC 1", 62, 400, "SYNTAX_ERROR"),
        ("SELEC 'a file", 62, 400, "SYNTAX_ERROR"),
        ("", 62, 400, "SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", 62, 400, "SYNTAX_ERROR"),
        ("SELECT 1; DROP TABLE IF EXISTS t", 62, 400, "SYNTAX_ERROR"),
        ("SELECT toUInt8('x')", 6, 400, "CANNOT_PARSE_TEXT"),
        ("SELECT 1 SETTINGS no_such_setting = 1", 115, 404, "UNKNOWN_SETTING"),
        ("SELECT throwIf(1, 'ünicode')", 395, 500, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT 1 FORMAT NoSuchFormat", 73, 404, "UNKNOWN_FORMAT"),
    ],
)
def test_an_error_has_clickhouses_code_status_and_name(
    ann: "Http", sql: str, code: int, status: int, name: str
) -> None:
    reply = ann(sql)

    assert (reply.code, reply.status) == (code, status)
    assert f"({name})" in reply.text
    assert "formatQuery" not in reply.text
    assert reply.text.count("DB::Exception") == reply.text.count("(version ") == 1


@pytest.mark.parametrize(
    ("parameters", "code"), [({"no_such_setting": "1"}, 115), ({"a-b": "1"}, 115), ({"database": "nix"}, 81)]
)
def test_a_wrong_parameter_is_an_error(ann: "Http", parameters: dict[str, str], code: int) -> None:
    assert ann("SELECT 1", parameters).code == code


@pytest.mark.parametrize(
    ("user", "password"), [("ann", "wrong"), ("rob", ""), ("nobody", ""), ("default", "")]
)
def test_a_wrong_password_is_refused(
    guarded: "Server", http_type: "type[Http]", user: str, password: str
) -> None:
    reply = http_type(guarded.port, user, password)("SELECT 1")

    assert (reply.code, reply.status) == (516, 403)


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        ({"X-ClickHouse-User": "ann", "X-ClickHouse-Key": "ann's"}, {}),
        ({}, {"user": "ann", "password": "ann's"}),
    ],
)
def test_a_password_may_come_in_headers_and_parameters(
    guarded: "Server", http_type: "type[Http]", headers: dict[str, str], parameters: dict[str, str]
) -> None:
    assert http_type(guarded.port)("SELECT 1", parameters, headers).text == "1\n"


def test_an_answer_says_what_it_is(ann: "Http") -> None:
    reply = ann("SELECT 1 FORMAT JSONEachRow", {"query_id": "mine"})

    assert reply.headers["X-ClickHouse-Query-Id"] == "mine"
    assert reply.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert reply.headers["X-ClickHouse-Timezone"]
    assert "read_rows" in reply.headers["X-ClickHouse-Summary"]
    assert reply.headers["Content-Type"].startswith("application/x-ndjson")


def test_an_error_behind_the_first_bytes_breaks_the_answer_and_is_written_into_it(ann: "Http") -> None:
    sql = "SELECT toString(number), throwIf(number = 2000000) FROM numbers(3000000)"

    with closing(ann.connect()) as connection:
        connection.request("POST", "/", sql, ann.headers)
        answer = connection.getresponse()
        with pytest.raises(IncompleteRead) as broken:
            answer.read()

    assert answer.status == 200
    assert b"\r\n__exception__\r\n" in broken.value.partial
    assert b"Code: 395. DB::Exception" in broken.value.partial


def test_a_connection_goes_on_after_an_error(ann: "Http") -> None:
    texts = []

    with closing(ann.connect()) as connection:
        for sql in (
            "SELEC",
            "SELECT 1",
            "INSERT INTO no_such_table FORMAT CSV\n" + "1\n" * 100_000,
            "SELECT 2",
        ):
            connection.request("POST", "/", sql, ann.headers)
            texts.append(connection.getresponse().read().decode())

    assert [texts[1], texts[3]] == ["1\n", "2\n"]
    assert texts[2].startswith("Code: 60. ")


def test_too_many_statements_at_once_are_refused_and_nobody_else(ann: "Http") -> None:
    codes: list[int] = []
    sleepers = [
        threading.Thread(target=lambda: codes.append(ann("SELECT sleep(2) FORMAT Null").code))
        for _ in range(115)
    ]

    for sleeper in sleepers:
        sleeper.start()
    for sleeper in sleepers:
        sleeper.join()

    assert set(codes) == {0, 202}
    assert codes.count(0) >= 100
    assert ann("SELECT 1").text == "1\n"


def test_an_unknown_path_is_not_found(ann: "Http") -> None:
    assert ann("SELECT 1", path="/nix").status == 404


def test_a_ping_needs_no_password(guarded: "Server", http_type: "type[Http]") -> None:
    reply = http_type(guarded.port)(method="GET", path="/ping")

    assert (reply.status, reply.text) == (200, "Ok.\n")


@pytest.mark.parametrize(
    "hostile",
    [
        "SELECT '" + "\\'" * 120_000,
        "SELECT " + "$a$ $b$ " * 30_000,
        "SELECT " + "/*" * 120_000,
        "SELECT " + "1," * 120_000,
    ],
    ids=["quotes", "heredocs", "comments", "words"],
)
def test_a_hostile_statement_does_not_stop_the_others(ann: "Http", hostile: str) -> None:
    sender = threading.Thread(target=ann, args=(hostile,))
    sender.start()

    seconds = []
    while sender.is_alive():
        began = time.monotonic()
        assert ann("SELECT 1").text == "1\n"
        seconds.append(time.monotonic() - began)
    sender.join()

    assert max(seconds, default=0) < 3


def test_a_statement_without_rows_has_a_limit(ann: "Http") -> None:
    assert ann("SELECT '" + "x" * 300_000 + "'").code == 62
