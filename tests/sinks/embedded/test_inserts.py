"""An insert is taken once, whole, or not at all."""

import socket
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sinks.conftest import Server
    from sinks.embedded.conftest import Http


def test_a_token_that_comes_again_inserts_nothing(ann: "Http") -> None:
    ann(
        "CREATE OR REPLACE TABLE once (n UInt32) ENGINE = MergeTree ORDER BY n "
        "SETTINGS non_replicated_deduplication_window = 1000"
    )
    insert = "INSERT INTO once FORMAT CSV\n1\n2\n"

    for token in ("a:0-1", "a:0-1", "a:2-3", "a:0-1"):
        reply = ann(insert, {"insert_deduplication_token": token, "async_insert": "0"})
        assert reply.code == 0

    assert ann("SELECT n, count() FROM once GROUP BY n ORDER BY n").text == "1\t2\n2\t2\n"


def test_an_insert_into_more_than_a_hundred_partitions_is_refused_or_taken_as_a_whole(ann: "Http") -> None:
    ann("CREATE OR REPLACE TABLE parted (n UInt32) ENGINE = MergeTree PARTITION BY n ORDER BY n")
    rows = "INSERT INTO parted FORMAT CSV\n" + "".join(f"{number}\n" for number in range(150))
    count = "SELECT count(), uniqExact(_partition_id) FROM parted"

    refused = ann(rows)
    assert (refused.code, ann(count).text) == (252, "0\t0\n")

    taken = ann(rows, {"max_partitions_per_insert_block": "0"})
    assert (taken.code, ann(count).text) == (0, "150\t150\n")


@pytest.mark.parametrize(
    ("definition", "code"),
    [
        ("(n UInt32, CONSTRAINT small CHECK n < 3) ENGINE = MergeTree ORDER BY n", 469),
        ("(n UInt32) ENGINE = MergeTree PARTITION BY throwIf(n = 3)::UInt8 ORDER BY n", 395),
        ("(n UInt32) ENGINE = MergeTree ORDER BY n SETTINGS parts_to_throw_insert = 1", 252),
    ],
)
@pytest.mark.parametrize("through", ["table", "view"])
def test_what_fails_behind_the_parser_is_never_acknowledged(
    ann: "Http", definition: str, code: int, through: str
) -> None:
    ann("DROP VIEW IF EXISTS passing")
    ann(f"CREATE OR REPLACE TABLE last {definition}")
    ann("CREATE OR REPLACE TABLE first (n UInt32) ENGINE = Null")
    ann("CREATE MATERIALIZED VIEW passing TO last AS SELECT n FROM first")
    assert ann("INSERT INTO last VALUES (1)").code == 0

    reply = ann(f"INSERT INTO {'first' if through == 'view' else 'last'} FORMAT CSV\n2\n3\n")

    assert reply.code == code
    assert "/dev/fd" not in reply.text
    assert ann("SELECT groupArray(n) FROM last").text == "[1]\n"


def test_binary_rows_may_look_like_statements(ann: "Http") -> None:
    ann("CREATE OR REPLACE TABLE binary (s String) ENGINE = MergeTree ORDER BY s")

    reply = ann(
        b"INSERT INTO binary SETTINGS max_threads = 1 FORMAT RowBinary\n\x0c; SELECT 1;\n\x02\x00\xff"
    )

    assert reply.code == 0, reply.text
    assert ann("SELECT hex(s) FROM binary ORDER BY s").text == "00FF\n3B2053454C45435420313B0A\n"


def test_money_and_time_stay_exact(ann: "Http") -> None:
    ann(
        "CREATE OR REPLACE TABLE exact (cost Decimal(38, 12), at DateTime64(9, 'UTC')) "
        "ENGINE = MergeTree ORDER BY cost"
    )
    rows = '{"cost":"12345678901234567890123456.123456789012","at":"2026-02-28 23:59:59.123456789"}\n'

    ann(
        "INSERT INTO exact FORMAT JSONEachRow\n"
        + rows
        + '{"cost":"-0.000000000001","at":"1970-01-01 00:00:00"}\n'
    )

    assert ann("SELECT sum(cost), max(at) FROM exact").text == (
        "12345678901234567890123456.123456789011\t2026-02-28 23:59:59.123456789\n"
    )


@pytest.mark.parametrize("ending", ["cut", "short"])
def test_a_body_that_breaks_off_inserts_nothing(guarded: "Server", ann: "Http", ending: str) -> None:
    ann("CREATE OR REPLACE TABLE halves (n UInt32) ENGINE = MergeTree ORDER BY n")
    body = b"INSERT INTO halves FORMAT CSV\n" + b"1\n" * 50_000
    length = "Content-Length: 200000" if ending == "short" else "Transfer-Encoding: chunked"
    data = body if ending == "short" else b"%x\r\n%s\r\n" % (len(body), body)

    with socket.create_connection(("127.0.0.1", guarded.port)) as connection:
        head = (
            f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: {ann.headers['Authorization']}\r\n{length}\r\n\r\n"
        )
        connection.sendall(head.encode() + data)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    time.sleep(0.2)
    assert ann("SELECT count() FROM halves").text == "0\n"


def test_a_row_that_does_not_fit_refuses_the_insert(ann: "Http") -> None:
    ann("CREATE OR REPLACE TABLE strict (n UInt32) ENGINE = MergeTree ORDER BY n")

    reply = ann("INSERT INTO strict FORMAT CSV\n" + "1\n" * 1000 + "ü\n")

    assert (reply.code, reply.status) == (117, 400)
    assert ann("SELECT count() FROM strict").text == "0\n"


def test_a_view_behind_a_table_sees_the_same_rows(ann: "Http") -> None:
    ann("CREATE OR REPLACE TABLE seen (n UInt32) ENGINE = MergeTree ORDER BY n")
    ann(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS seeing ENGINE = MergeTree ORDER BY n AS SELECT n + 1 AS n FROM seen"
    )

    ann("INSERT INTO seen VALUES (1), (2)")

    assert ann("SELECT sum(n) FROM seeing").text == "5\n"
