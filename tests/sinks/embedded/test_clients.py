"""The clients that people have work unchanged: clickhouse-connect, curl, and every format and encoding."""

import asyncio
import gzip
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import clickhouse_connect
import lz4.frame  # type: ignore[import-untyped]
import pyarrow as pa
import pytest
import zstandard
from clickhouse_connect.driver import Client
from clickhouse_connect.driver.exceptions import DatabaseError

if TYPE_CHECKING:
    from sinks.conftest import Server
    from sinks.embedded.conftest import Http

DEFINITION = """CREATE OR REPLACE TABLE bills (
    at DateTime64(9, 'UTC'), who String, cost Decimal(38, 12), tokens UInt64, tags Map(String, String)
) ENGINE = MergeTree ORDER BY at"""
ROWS = [
    (
        datetime(2026, 2, 28, 23, 59, 59, 999999, UTC),
        "Zoë 😀\t'\"\\\n",
        Decimal("99999999999999999999999999.999999999999"),
        2**64 - 1,
        {"größe": "groß"},
    ),
    (datetime(1970, 1, 1, tzinfo=UTC), "", Decimal("-0.000000000001"), 0, {}),
]
COLUMNS = ["at", "who", "cost", "tokens", "tags"]
TOTAL = "SELECT count(), toString(sum(cost)) FROM bills FORMAT TSV"
EXPECTED_TOTAL = "2\t99999999999999999999999999.999999999998\n"


@pytest.fixture
def client(guarded: "Server", ann: "Http") -> Iterator[Client]:
    """clickhouse-connect as people use it, and an empty table."""
    assert ann(DEFINITION).code == 0
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=guarded.port, username="ann", password="ann's", tz_mode="aware"
    )
    yield client
    client.close()


def test_rows_come_back_as_they_went(client: Client) -> None:
    client.insert("bills", ROWS, column_names=COLUMNS)

    found = client.query("SELECT * FROM bills ORDER BY tokens DESC")

    assert found.result_rows == [tuple(row) for row in ROWS]


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", True, False])
def test_every_compression_works_both_ways(guarded: "Server", ann: "Http", compression: str | bool) -> None:
    ann("CREATE OR REPLACE TABLE squeezed (n UInt32, s String) ENGINE = MergeTree ORDER BY n")
    with clickhouse_connect.get_client(
        host="127.0.0.1", port=guarded.port, username="ann", password="ann's", compress=compression
    ) as client:
        client.insert("squeezed", [(n, f"row {n}") for n in range(50_000)])

        found = client.query("SELECT * FROM squeezed ORDER BY n").result_rows

    assert found == [(n, f"row {n}") for n in range(50_000)]


def test_arrow_goes_both_ways(client: Client) -> None:
    table = pa.table(
        {
            "at": pa.array([row[0] for row in ROWS], pa.timestamp("us", "UTC")),
            "who": pa.array([row[1] for row in ROWS]),
            "cost": pa.array([row[2] for row in ROWS], pa.decimal128(38, 12)),
            "tokens": pa.array([row[3] for row in ROWS], pa.uint64()),
        }
    )

    client.insert_arrow("bills", table)
    found = client.query_arrow("SELECT at, who, cost, tokens FROM bills ORDER BY tokens DESC")

    assert found["cost"].to_pylist() == [row[2] for row in ROWS]
    assert [str(who) for who in found["tokens"].to_pylist()] == [str(row[3]) for row in ROWS]


def test_parameters_are_values_and_never_sql(client: Client) -> None:
    values: dict[str, Any] = {
        "text": "x'; DROP TABLE bills; -- \\ ü\n\t",
        "numbers": [1, 2, 3],
        "money": Decimal("0.000000000001"),
        "at": datetime(2026, 1, 1, 12, tzinfo=UTC),
    }

    found = client.query(
        "SELECT {text:String}, {numbers:Array(UInt8)}, {money:Decimal(38, 12)}, {at:DateTime64(3, 'UTC')}",
        values,
    )

    assert found.result_rows == [(values["text"], [1, 2, 3], values["money"], values["at"])]


def test_settings_databases_and_empty_results_work(client: Client) -> None:
    client.command("CREATE DATABASE IF NOT EXISTS other")
    client.command("CREATE TABLE IF NOT EXISTS other.t (a Int8, b String) ENGINE = Memory")
    client.database = "other"

    assert client.query("SELECT * FROM t").result_rows == []
    assert client.query_arrow("SELECT * FROM t").column_names == ["a", "b"]
    assert client.command("SELECT getSetting('max_threads')", settings={"max_threads": 3}) == 3
    assert client.command("SELECT currentDatabase()") == "other"
    assert client.ping()


def test_a_streaming_read_gives_every_row_once(client: Client) -> None:
    with client.query_rows_stream("SELECT number, toString(number) FROM numbers(500000)") as stream:
        numbers = [row[0] for row in stream]

    assert numbers == list(range(500_000))


def test_errors_reach_the_caller_with_their_code(client: Client) -> None:
    with pytest.raises(DatabaseError, match=r"(?i)code:? 60\b"):
        client.query("SELECT * FROM nix")


def test_parameters_may_come_in_a_form(guarded: "Server") -> None:
    with clickhouse_connect.get_client(
        host="127.0.0.1", port=guarded.port, username="rob", password="rob's", form_encode_query_params=True
    ) as client:
        found = client.query("SELECT {text:String}", {"text": "ü" * 100_000})

    assert found.result_rows == [("ü" * 100_000,)]


def test_the_async_client_works(guarded: "Server", ann: "Http") -> None:
    ann(DEFINITION)

    async def use() -> list[Any]:
        client = await clickhouse_connect.get_async_client(
            host="127.0.0.1", port=guarded.port, username="ann", password="ann's", tz_mode="aware"
        )
        await client.insert("bills", ROWS, column_names=COLUMNS)
        answers = await asyncio.gather(
            client.query("SELECT * FROM bills ORDER BY tokens DESC"),
            client.query("SELECT {n:UInt64}", {"n": 7}),
            client.command("SELECT count() FROM bills"),
        )
        await client.close()
        return [answers[0].result_rows, answers[1].result_rows, answers[2]]

    assert asyncio.run(use()) == [[tuple(row) for row in ROWS], [(7,)], 2]


@pytest.mark.parametrize(
    "name", ["JSONEachRow", "CSV", "ArrowStream", "Native", "RowBinary", "TSV", "Parquet"]
)
def test_what_select_writes_in_a_format_insert_reads(client: Client, ann: "Http", name: str) -> None:
    client.insert("bills", ROWS, column_names=COLUMNS)
    written = ann(f"SELECT * FROM bills ORDER BY at FORMAT {name}").body
    ann("TRUNCATE TABLE bills")

    reply = ann(f"INSERT INTO bills FORMAT {name}\n".encode() + written)

    assert reply.code == 0
    assert '"written_rows": "2"' in reply.headers["X-ClickHouse-Summary"]
    assert ann(TOTAL).text == EXPECTED_TOTAL
    assert client.query("SELECT * FROM bills ORDER BY tokens DESC").result_rows == [
        tuple(row) for row in ROWS
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO pairs FORMAT CSV\n1,a\n2,b\n",
        "INSERT INTO pairs (n, s) FORMAT CSV 1,a\n2,b\n",
        "insert into pairs format CSV\r\n1,a\n2,b\n",
        "INSERT INTO `pairs` VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO pairs VALUES (0 + 1, lower('A')), (2, 'b');",
        "INSERT INTO pairs FORMAT Values (1, 'a'), (2, 'b')",
        "/* VALUES (9, 'x') */ INSERT INTO default.pairs -- FORMAT CSV\n (n, s) VALUES (1,'a') (2,'b')",
        "INSERT INTO pairs SETTINGS max_insert_threads = 1 FORMAT JSONEachRow\n"
        '{"n":1,"s":"a"}\n{"n":2,"s":"b"}\n',
        "INSERT INTO pairs SELECT number + 1, char(97 + number) FROM numbers(2)",
        "INSERT INTO pairs (n, s) WITH 1 AS one SELECT one, 'a' UNION ALL SELECT 2, 'b'",
    ],
)
def test_every_way_to_write_an_insert_works(ann: "Http", statement: str) -> None:
    ann("CREATE OR REPLACE TABLE pairs (n UInt8, s String) ENGINE = MergeTree ORDER BY n")

    whole, split = ann(statement), statement.partition("\n")
    assert whole.code == 0, whole.text
    assert ann("SELECT * FROM pairs ORDER BY n").text == "1\ta\n2\tb\n"

    ann("TRUNCATE TABLE pairs")
    if not statement.startswith("/*"):
        assert ann(split[2], {"query": split[0]}).code == 0
        assert ann("SELECT * FROM pairs ORDER BY n").text == "1\ta\n2\tb\n"


@pytest.mark.parametrize(
    ("encoding", "pack", "unpack"),
    [
        ("gzip", gzip.compress, gzip.decompress),
        ("lz4", lz4.frame.compress, lz4.frame.decompress),
        ("zstd", lambda data: zstandard.compress(data), lambda data: _unzstd(data)),
    ],
)
def test_bodies_may_be_compressed_both_ways(
    ann: "Http", encoding: str, pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]
) -> None:
    ann("CREATE OR REPLACE TABLE packed (s String) ENGINE = MergeTree ORDER BY s")
    rows = b"".join(b"row %07d\n" % number for number in range(300_000))
    # Compressed bodies may be several frames, one behind the other.
    body = pack(b"INSERT INTO packed FORMAT LineAsString\n" + rows[:1_000_000]) + pack(rows[1_000_000:])

    inserted = ann(body, headers={"Content-Encoding": encoding})
    asked = {"Accept-Encoding": encoding}
    read = ann("SELECT s FROM packed ORDER BY s FORMAT TSV", {"enable_http_compression": "1"}, asked)

    assert inserted.code == 0, inserted.text
    assert read.headers["Content-Encoding"] == encoding
    assert unpack(read.body) == rows
    assert ann(pack(b"SELEC"), headers={"Content-Encoding": encoding}).code == 62


@pytest.mark.parametrize("encoding", ["gzip", "lz4", "zstd"])
def test_a_body_that_is_not_what_it_says_is_refused_and_writes_nothing(ann: "Http", encoding: str) -> None:
    ann("CREATE OR REPLACE TABLE broken (s String) ENGINE = MergeTree ORDER BY s")

    reply = ann(b"INSERT INTO broken FORMAT LineAsString\nx", headers={"Content-Encoding": encoding})

    assert reply.code in (354, 618, 561)
    assert ann("SELECT count() FROM broken").text == "0\n"


def test_an_unknown_encoding_is_refused(ann: "Http") -> None:
    assert ann(b"SELECT 1", headers={"Content-Encoding": "br"}).code == 48


def test_curl_works(guarded: "Server", ann: "Http", http_type: "type[Http]") -> None:
    ann("CREATE OR REPLACE TABLE curled (s String) ENGINE = MergeTree ORDER BY s")
    rows = "ü 1\n" * 300_000  # more than 1 MiB, so that curl asks first with `Expect: 100-continue`

    if shutil.which("curl"):
        address = f"http://127.0.0.1:{guarded.port}/"
        run = ["curl", "-sS", "-u", "ann:ann's", "--compressed"]
        query = "query=INSERT%20INTO%20curled%20FORMAT%20LineAsString"
        sent = subprocess.run(
            [*run, f"{address}?{query}", "--data-binary", "@-"], input=rows.encode(), check=True
        )
        found = subprocess.run(
            [*run, f"{address}?enable_http_compression=1", "-d", "SELECT count(), any(s) FROM curled"],
            check=True,
            capture_output=True,
        ).stdout
        assert sent.returncode == 0
    else:
        headers = {"Expect": "100-continue"}
        http_type(guarded.port, "ann", "ann's")(
            rows, {"query": "INSERT INTO curled FORMAT LineAsString"}, headers
        )
        found = ann("SELECT count(), any(s) FROM curled").body

    assert found.decode() == "300000\tü 1\n"


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)
