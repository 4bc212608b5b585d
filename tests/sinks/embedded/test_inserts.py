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


def test_an_insert_into_more_than_a_hundred_partitions_works(ann: "Http") -> None:
    ann("CREATE OR REPLACE TABLE parted (n UInt32) ENGINE = MergeTree PARTITION BY n ORDER BY n")
    rows = "INSERT INTO parted FORMAT CSV\n" + "".join(f"{number}\n" for number in range(150))

    reply = ann(rows)

    assert reply.code == 0, reply.text
    assert ann("SELECT count(), uniqExact(_partition_id) FROM parted").text == "150\t150\n"


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
