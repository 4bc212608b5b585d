"""`tokentide clickhouse` as a process: how it starts, is refused, and ends, and what a kill leaves behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from sinks.conftest import Server
    from sinks.embedded.conftest import Http

Start = Callable[..., "Server"]


@pytest.fixture
def start(tmp_path: Path, server_type: "type[Server]") -> Iterator[Start]:
    """Starts servers in a folder of this test, and leaves none behind."""
    started = []

    def start(*arguments: str, **variables: str) -> "Server":
        server = server_type(tmp_path, arguments, variables)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


def refused(*arguments: str, **variables: str) -> str:
    """Run the command, which must end with code 2 and one line of advice, and return that line."""
    ended = subprocess.run(
        [sys.executable, "-m", "tokentide.console.cli", "clickhouse", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def test_a_taken_path_names_its_owner(guarded: "Server") -> None:
    message = refused("--path", str(guarded.path), "--port", "0")

    assert message == (
        f"{guarded.path} is in use by process {guarded.pid}: use its port, stop it, or choose another path\n"
    )


def test_a_taken_port_is_named(guarded: "Server", tmp_path: Path) -> None:
    message = refused("--path", str(tmp_path / "data"), "--port", str(guarded.port))

    assert f"cannot listen on 127.0.0.1:{guarded.port}: " in message
    assert "stop what uses the port, or choose another one" in message


def test_a_number_that_is_no_port_is_named(tmp_path: Path) -> None:
    assert "cannot listen on 127.0.0.1:65536: " in refused(
        "--path", str(tmp_path / "data"), "--port", "65536"
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file", "cannot open {} as a ClickHouse data path: "),
        ("file/below", "cannot lock {}: "),
        ("/proc/nowhere/data", "choose a folder you may write to"),
        ("a?b", "has one of ? & % # in it"),
    ],
)
def test_a_path_that_cannot_hold_data_is_named(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "file").write_text("not a folder")

    message = refused("--path", str(tmp_path / path), "--port", "0")

    assert words.format(tmp_path / path) in message


def test_an_open_door_to_the_network_is_refused(tmp_path: Path) -> None:
    path = ["--path", str(tmp_path / "data"), "--port", "0"]
    password = {"TOKENTIDE_CLICKHOUSE_PASSWORD": "x"}

    assert "give every user a password" in refused(*path, "--host", "127.evil.example")
    assert "give every user a password" in refused(*path, "--host", "0.0.0.0", "--reader", "rob", **password)
    assert "--user ann protects nothing" in refused(*path, "--user", "ann")


def test_without_a_password_everybody_on_this_host_may_write_and_no_page(
    start: Start, http_type: "type[Http]"
) -> None:
    server = start()
    http = http_type(server.port, "whoever", "whatever")

    assert http("CREATE TABLE t (a Int8) ENGINE = Memory").code == 0
    assert http_type(server.port)("INSERT INTO t VALUES (1)").code == 0
    assert http("SELECT 1", headers={"Host": f"localhost:{server.port}"}).code == 0
    assert http("SELECT 1", headers={"Host": f"rebound.example:{server.port}"}).status == 403
    assert {c.laddr.ip for c in psutil.Process(server.pid).net_connections() if c.status == "LISTEN"} == {
        "127.0.0.1"
    }


@pytest.mark.parametrize("user", ["default", "ann"])
def test_the_environment_of_the_other_commands_names_the_writer(
    start: Start, http_type: "type[Http]", user: str
) -> None:
    named = {} if user == "default" else {"TOKENTIDE_CLICKHOUSE_USER": user}
    server = start(TOKENTIDE_CLICKHOUSE_PASSWORD="s3cret", **named)

    assert http_type(server.port, user, "s3cret")("CREATE TABLE t (a Int8) ENGINE = Memory").code == 0
    assert http_type(server.port, user, "")("SELECT 1").code == 516
    assert http_type(server.port)("SELECT 1").code == 516


def test_a_user_without_a_password_in_the_environment_is_let_in(
    start: Start, http_type: "type[Http]"
) -> None:
    server = start(TOKENTIDE_CLICKHOUSE_USER="ann")

    assert http_type(server.port, "ann", "")("CREATE TABLE t (a Int8) ENGINE = Memory").code == 0


def test_data_survives_a_stop_in_a_path_with_blanks_and_umlauts(
    tmp_path: Path, server_type: "type[Server]", http_type: "type[Http]"
) -> None:
    folder = tmp_path / "a name with blanks and ü"
    folder.mkdir()
    server = server_type(folder)
    http = http_type(server.port)
    try:
        server.start()
        http("CREATE DATABASE mine")
        for database in ("default", "mine"):
            http(f"CREATE TABLE {database}.t (a String) ENGINE = MergeTree ORDER BY a")
            http(f"INSERT INTO {database}.t VALUES ('größe')")
        assert server.stop() == 0

        server.start()

        assert http("SELECT * FROM default.t").text == "größe\n"
        assert http("SELECT * FROM mine.t").text == "größe\n"
        assert server.stop(signal.SIGINT) == 0
    finally:
        server.kill()


def test_a_stop_lets_a_short_statement_end(start: Start, http_type: "type[Http]") -> None:
    server = start()
    http = http_type(server.port)
    replies = []
    running = threading.Thread(target=lambda: replies.append(http("SELECT sleep(1.5), 'whole'").text))
    running.start()
    time.sleep(0.5)

    assert server.stop() == 0
    running.join()

    assert replies == ["0\twhole\n"]


def test_a_stop_cancels_what_runs_on_and_cuts_whom_nobody_hears(
    start: Start, http_type: "type[Http]"
) -> None:
    server = start()
    http = http_type(server.port)
    http("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    codes: list[int] = []
    long = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(cityHash64(number))"
    running = threading.Thread(target=lambda: codes.append(http(long).code))
    running.start()
    stalled = "SELECT number FROM system.numbers FORMAT TSV"

    with (
        closing(http.connect()) as reading,
        socket.create_connection(("127.0.0.1", server.port)) as writing,
        socket.create_connection(("127.0.0.1", server.port)),
    ):
        reading.request("POST", "/", stalled)
        reading.getresponse().read(1)
        writing.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        writing.sendall(b"INSERT INTO t FORMAT CSV\n" + b"1\n" * 100_000)
        time.sleep(0.5)
        began = time.monotonic()
        code = server.stop()
        seconds = time.monotonic() - began
    running.join()

    assert code == 0, server.log
    assert seconds < 10
    assert codes == [394]
    server.start()
    assert http("SELECT count() FROM t").text == "0\n"


def test_what_was_acknowledged_is_there_after_a_kill_and_nothing_else_is_left(
    start: Start, http_type: "type[Http]", tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    server = start(TMPDIR=str(temporary))
    http = http_type(server.port)
    http("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    before = leftovers(server.path)
    for _ in range(2):
        acknowledged: set[int] = set(map(int, http("SELECT DISTINCT intDiv(n, 1000) FROM t").text.split()))
        first = max(acknowledged, default=-1) + 1
        writers = [
            threading.Thread(target=write_until_killed, args=(http, first + offset, 3, acknowledged))
            for offset in range(3)
        ]
        # A sort that spills to the disk, and a large answer that is held back.
        sort = "SELECT number FROM numbers(20000000) ORDER BY sipHash64(number) FORMAT Null"
        spill = {"max_bytes_before_external_sort": "1000000", "max_bytes_ratio_before_external_sort": "0"}
        held = "SELECT number, repeat('x', 100) FROM numbers(2000000)"
        others = [
            threading.Thread(target=run_until_killed, args=(http, sort, spill)),
            threading.Thread(target=run_until_killed, args=(http, held, {"wait_end_of_query": "1"})),
        ]
        for thread in [*writers, *others]:
            thread.start()
        time.sleep(1.5)

        server.kill()
        for thread in [*writers, *others]:
            thread.join()
        server.start()

        counted = (
            line.split()
            for line in http("SELECT intDiv(n, 1000), count() FROM t GROUP BY 1").text.splitlines()
        )
        rows = {int(batch): int(count) for batch, count in counted}
        assert len(acknowledged) > first
        assert acknowledged <= rows.keys()
        assert set(rows.values()) == {1000}
    assert server.stop() == 0

    assert leftovers(server.path) == before
    assert list(temporary.iterdir()) == []
    assert [path.name for path in server.path.rglob("tmp_insert*")] == []


def write_until_killed(http: "Http", batch: int, step: int, acknowledged: set[int]) -> None:
    """Insert batches of 1000 rows until nobody answers, and note those that were acknowledged."""
    with suppress(OSError, HTTPException):
        while True:
            rows = "".join(f"{batch * 1000 + number}\n" for number in range(1000))
            if http(f"INSERT INTO t FORMAT TSV\n{rows}").code == 0:
                acknowledged.add(batch)
            batch += step


def run_until_killed(http: "Http", sql: str, settings: dict[str, str]) -> None:
    """Run a statement again and again until nobody answers."""
    with suppress(OSError, HTTPException):
        while True:
            assert http(sql, settings).code == 0


def leftovers(path: Path) -> list[str]:
    """The files of a data path that belong to no table."""
    return sorted(
        str(found.relative_to(path)) for folder in ("tmp", "server") for found in (path / folder).rglob("*")
    )


def test_a_start_that_is_killed_leaves_nothing_outside_its_path(tmp_path: Path, start: Start) -> None:
    """The engine makes a folder of its own while it starts, for a tenth of a second."""
    temporary, path = tmp_path / "temporary", tmp_path / "data"
    temporary.mkdir()
    command = [
        sys.executable,
        "-m",
        "tokentide.console.cli",
        "clickhouse",
        "--path",
        str(path),
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(temporary)}, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not (made := [*temporary.iterdir(), *path.glob("server/tmp/*")]):
            assert process.poll() is None
            assert time.monotonic() < deadline
    finally:
        process.kill()
        process.wait()

    assert list(temporary.iterdir()) == []
    assert made[0].name.startswith("clickhouse-embedded-")
    start(TMPDIR=str(temporary))
    assert list(path.glob("server/tmp/*")) == list(temporary.iterdir()) == []
