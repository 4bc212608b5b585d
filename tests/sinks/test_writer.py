"""Inserts that count once: lost answers, refused connections, a server killed between and inside inserts."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest

from tokentide.schemas import (
    Period,
    Scope,
    ServiceUnavailableError,
    SpendTotal,
    SpendUpdate,
    StorageRefusedError,
)
from tokentide.sinks import SPEND, ClickHouseSettings, ClickHouseWriter, Record, connect

NOWHERE = ClickHouseSettings(url="http://127.0.0.1:1")
MONTHS = 24


class Server(Protocol):
    """The embedded ClickHouse of the fixture `server`."""

    def start(self) -> None: ...
    def kill(self) -> None: ...


class Proxy(ThreadingHTTPServer):
    """Stands before ClickHouse, remembers the inserts, and lets some of them go wrong."""

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(url).netloc
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.inserts: list[tuple[str, bytes]] = []
        self.faults: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        tokens = parse_qs(urlsplit(self.path).query).get("insert_deduplication_token")
        fault = ""
        if tokens is not None:
            self.server.inserts.append((tokens[0], body))
            fault = self.server.faults.pop(0) if self.server.faults else ""
        if fault == "busy":
            self._answer(503, {}, b"")
            return
        status, headers, answer = self._forward(body)
        if fault == "answer lost":
            self.close_connection = True
            return
        self._answer(status, headers, answer)

    do_GET = do_POST

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        there = http.client.HTTPConnection(self.server.target, timeout=30)
        try:
            there.request(self.command, self.path, body, dict(self.headers))
            answer = there.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            there.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def proxy(settings: ClickHouseSettings) -> Iterator[Proxy]:
    """A proxy before the server of `settings`."""
    with Proxy(settings.url) as proxy:
        serving = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        serving.start()
        yield proxy
        proxy.shutdown()
        serving.join()


def rows(count: int, months: int = 1) -> pa.Table:
    """So many totals, spread over months."""
    starts = [int(datetime(2020 + at // 12, 1 + at % 12, 1, tzinfo=UTC).timestamp()) for at in range(months)]
    updates = []
    for number in range(count):
        total = SpendTotal(
            period=Period.MONTH,
            period_start=starts[number % months],
            requests=1,
            input_tokens=number,
            output_tokens=0,
            cost_pico_usd=number,
            unpriced_requests=0,
        )
        update = SpendUpdate(
            scope=Scope.USER, scope_id=f"user-{number}", source_partition=0, version=1, totals=(total,)
        )
        updates.append(SPEND.decode(Record(0, number, update.model_dump_json().encode())))
    return SPEND.rows(updates)


def stored(settings: ClickHouseSettings, table: str = "spend_totals") -> tuple[Any, ...]:
    """Count, distinct users and sum of tokens; without FINAL, so that doubled rows show."""
    client = connect(settings)
    try:
        columns = "count(), uniqExact(scope_id), sum(input_tokens)"
        found: Sequence[Any] = client.query(f"SELECT {columns} FROM {table}").result_rows
        return tuple(found[0])
    finally:
        client.close()


def whole(count: int) -> tuple[int, int, int]:
    """What `stored` says when `rows(count)` are there, each once."""
    return (count, count, count * (count - 1) // 2)


def never(_stop: threading.Event, _seconds: float) -> bool:
    """Waits for nothing, and is never told to stop."""
    return False


def test_an_insert_whose_answer_is_lost_is_sent_again_and_counts_once(
    settings: ClickHouseSettings, proxy: Proxy
) -> None:
    proxy.faults = ["answer lost", "busy", "answer lost"]
    writer = ClickHouseWriter(ClickHouseSettings(proxy.url, database=settings.database), wait=never)

    writer.insert_with_retry("spend_totals", rows(100), "token-1", threading.Event())

    assert stored(settings) == whole(100)
    assert len(proxy.inserts) == 4
    assert set(proxy.inserts) == {("token-1", proxy.inserts[0][1])}


def test_rows_of_other_tokens_are_kept_apart(settings: ClickHouseSettings) -> None:
    writer = ClickHouseWriter(settings)

    writer.insert("spend_totals", rows(10), "token-1")
    writer.insert("spend_totals", rows(10), "token-2")

    assert stored(settings) == (20, 10, 90)


def test_a_server_that_was_killed_and_started_again_gets_the_same_insert(
    settings: ClickHouseSettings, server: Server
) -> None:
    delays = []

    def restart(_stop: threading.Event, seconds: float) -> bool:
        delays.append(seconds)
        if len(delays) == 3:
            server.start()
        return False

    writer = ClickHouseWriter(settings, wait=restart)
    writer.insert("spend_totals", rows(50), "before")
    server.kill()

    writer.insert_with_retry("spend_totals", rows(50), "before", threading.Event())
    writer.insert_with_retry("alert_events", pa.table({"alert_id": ["a"]}), "after", threading.Event())

    assert len(delays) == 3
    assert stored(settings) == whole(50)
    assert stored_alerts(settings) == 1


def stored_alerts(settings: ClickHouseSettings) -> int:
    """How many alerts are stored."""
    client = connect(settings)
    try:
        count: int = client.query("SELECT count() FROM alert_events").result_rows[0][0]
        return count
    finally:
        client.close()


@pytest.mark.parametrize("sight", ["tmp_insert_*", "20*"], ids=["parts are written", "a part is committed"])
def test_a_server_that_is_killed_inside_an_insert_ends_with_each_row_once(
    settings: ClickHouseSettings, server: Server, sight: str
) -> None:
    batch = rows(2400, MONTHS)
    folder = data_folder(settings)
    waits = []

    def restart(_stop: threading.Event, seconds: float) -> bool:
        waits.append(seconds)
        killing.join()
        if len(waits) == 1:
            server.start()
        return False

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not any(folder.glob(sight)) and time.monotonic() < deadline:
            time.sleep(0.0005)
        server.kill()

    writer = ClickHouseWriter(settings, wait=restart)
    writer.insert("alert_events", pa.table({"alert_id": ["a"]}), "connects")
    killing = threading.Thread(target=kill)

    killing.start()
    writer.insert_with_retry("spend_totals", batch, "token-1", threading.Event())
    killing.join()
    if not waits:
        server.start()  # the answer was faster than the kill: then every row must have survived it

    assert stored(settings) == whole(2400)


def data_folder(settings: ClickHouseSettings) -> Path:
    """Where the parts of `spend_totals` lie."""
    client = connect(settings)
    try:
        database = f"database = '{settings.database}' AND name = 'spend_totals'"
        found = client.query(f"SELECT data_paths[1] FROM system.tables WHERE {database}").result_rows
        return Path(found[0][0])
    finally:
        client.close()


def test_a_refusal_is_not_tried_again(settings: ClickHouseSettings) -> None:
    waits: list[float] = []

    def wait(_stop: threading.Event, seconds: float) -> bool:
        waits.append(seconds)
        return True

    writer = ClickHouseWriter(settings, wait=wait)

    with pytest.raises(StorageRefusedError, match=r"refused to insert into spend_totals.*carbon_grams"):
        writer.insert_with_retry("spend_totals", pa.table({"carbon_grams": [1]}), "token", threading.Event())

    assert waits == []


def test_a_retry_gives_up_with_the_last_error_once_it_is_told_to_stop() -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        ClickHouseWriter(NOWHERE).insert_with_retry("spend_totals", rows(1), "token", stop)


@pytest.mark.parametrize(
    ("uniform", "expected"),
    [
        (lambda _, high: high, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]),
        (lambda low, _: low, [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]),
    ],
    ids=["longest", "shortest"],
)
def test_the_time_between_tries_doubles_up_to_ten_seconds_half_of_it_random(
    uniform: Callable[[float, float], float], expected: list[float]
) -> None:
    waits: list[float] = []

    def wait(_stop: threading.Event, seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == len(expected)

    with pytest.raises(ServiceUnavailableError):
        ClickHouseWriter(NOWHERE, wait=wait, uniform=uniform).insert_with_retry(
            "spend_totals", rows(1), "token", threading.Event()
        )

    assert waits == pytest.approx(expected)


def test_threads_may_insert_through_one_writer(settings: ClickHouseSettings) -> None:
    writer = ClickHouseWriter(settings)
    table = rows(200)
    threads = [
        threading.Thread(target=writer.insert, args=("spend_totals", table.slice(at, 50), f"token-{at}"))
        for at in range(0, 200, 50)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert stored(settings) == whole(200)
