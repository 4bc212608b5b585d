"""Large results leave while they are made, in bounded memory, and nobody sees half an insert."""

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa
import pytest

if TYPE_CHECKING:
    from sinks.conftest import Server
    from sinks.embedded.conftest import Http

MEBIBYTE = 1024 * 1024


class Memory:
    """Watches how much a process grows above what it has now."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = self._process.memory_info().rss
        self._most = self._before
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def grown_mebibytes(self) -> int:
        return (self._most - self._before) // MEBIBYTE

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self._most = max(self._most, self._process.memory_info().rss)


@pytest.mark.parametrize("name", ["Native", "ArrowStream", "CSV", "JSONEachRow", "TSV", "RowBinary"])
def test_a_large_result_takes_little_memory(guarded: "Server", rob: "Http", name: str) -> None:
    sql = f"SELECT number, randomPrintableASCII(1000) AS text FROM numbers({{n:UInt32}}) FORMAT {name}"
    # What the engine keeps for the next statement is no part of this one.
    assert len(rob(sql, {"param_n": "30000", "max_block_size": "5000"}).body) > 28 * MEBIBYTE
    size = 0

    with Memory(guarded.pid) as memory, closing(rob.connect()) as connection:
        connection.request("POST", "/?max_block_size=5000&param_n=150000", sql, rob.headers)
        answer = connection.getresponse()
        while data := answer.read(MEBIBYTE):
            size += len(data)

    assert size > 140 * MEBIBYTE
    assert memory.grown_mebibytes < 100


def test_the_first_rows_come_long_before_the_last(rob: "Http") -> None:
    sql = "SELECT number, repeat('x', 1000), sleepEachRow(0.0005) FROM numbers(4000) SETTINGS max_block_size = 100"

    with closing(rob.connect()) as connection:
        began = time.monotonic()
        connection.request("POST", "/", f"{sql} FORMAT CSV", rob.headers)
        answer = connection.getresponse()
        answer.read(1)
        first = time.monotonic() - began
        answer.read()
        last = time.monotonic() - began

    assert first < last * 0.7


@pytest.mark.parametrize("compressed", [{}, {"low_cardinality": "1"}])
def test_an_arrow_stream_of_many_pieces_is_one_stream(rob: "Http", compressed: dict[str, str]) -> None:
    text = "toLowCardinality(toString(number % 7))" if compressed else "toString(number % 7)"
    sql = f"SELECT number, {text} AS s FROM numbers(300000) FORMAT ArrowStream"
    settings = {
        "output_format_arrow_low_cardinality_as_dictionary": "1",
        "output_format_arrow_string_as_string": "1",
    }

    table = pa.ipc.open_stream(rob(sql, settings).body).read_all()

    assert table["number"].to_pylist() == list(range(300_000))
    assert table["s"].to_pylist() == [str(number % 7) for number in range(300_000)]


def test_a_result_that_nobody_reads_to_its_end_is_cancelled(ann: "Http", rob: "Http") -> None:
    connection = rob.connect()
    connection.request("POST", "/", "SELECT 'unread', number FROM system.numbers FORMAT TSV", rob.headers)
    answer = connection.getresponse()
    answer.read(10 * MEBIBYTE)

    answer.close()
    connection.close()

    deadline = time.monotonic() + 10
    running = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT \\'unread%'"
    while ann(running).text != "0\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_whole_answer_can_be_asked_for(rob: "Http") -> None:
    sql = "SELECT toString(number), throwIf(number = 2000000) FROM numbers(3000000)"

    assert rob(sql, {"wait_end_of_query": "1"}).code == 395


def test_reads_and_writes_at_once_see_whole_inserts(ann: "Http", rob: "Http") -> None:
    ann("CREATE OR REPLACE TABLE busy (w UInt8, n UInt32) ENGINE = MergeTree ORDER BY (w, n)")
    partial: list[str] = []
    failed: list[str] = []
    done = threading.Event()

    def write(worker: int) -> None:
        for batch in range(8):
            rows = "".join(f"{worker}\t{batch * 1000 + number}\n" for number in range(1000))
            reply = ann("INSERT INTO busy FORMAT TSV\n" + rows)
            failed.extend([reply.text] if reply.code else [])

    def read() -> None:
        while not done.is_set():
            reply = rob("SELECT w, count() AS c FROM busy GROUP BY w HAVING c % 1000 != 0")
            partial.extend([reply.text] if reply.text else [])

    writers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in [*writers, *readers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()

    assert (failed, partial) == ([], [])
    assert rob("SELECT w, count(), uniqExact(n) FROM busy GROUP BY w ORDER BY w").text == "".join(
        f"{worker}\t8000\t8000\n" for worker in range(4)
    )
