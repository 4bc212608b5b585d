"""What ClickHouse's errors mean, from a real server, from a proxy before it, and from nowhere."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from urllib3.exceptions import ProtocolError

from tokentide.schemas import ServiceUnavailableError, StorageRefusedError
from tokentide.schemas.failures import CLICKHOUSE, Handling
from tokentide.sinks import ClickHouseSettings, connect, migrate, translate, translated
from tokentide.sinks.failures import RowRefusedError

HERE = ClickHouseSettings(url="http://127.0.0.1:8123", user="writer")
PASSWORD = "a secret"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    """Settings for a ClickHouse that wants a password, with the right one."""
    program = (
        "import sys, pathlib; from tokentide.sinks.embedded import serve; "
        "serve(pathlib.Path(sys.argv[1]), 0, user='writer', password=sys.argv[2], reader_user='reader', "
        "reader_password=sys.argv[2])"
    )
    folder = tmp_path_factory.mktemp("guarded")
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder / "data"), PASSWORD], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().removeprefix("ready ").strip()
    yield ClickHouseSettings(url=url, user="writer", password=PASSWORD)
    process.kill()
    process.communicate(timeout=30)


def fault(code: int | None, text: str) -> DatabaseError:
    """An error of the client, as it raises it for a server's answer."""
    error = DatabaseError(text)
    error.code = code
    return error


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_password_is_refused_with_the_setting_to_change(
    guarded: ClickHouseSettings, password: str
) -> None:
    settings = ClickHouseSettings(url=guarded.url, user="writer", password=password)

    with pytest.raises(StorageRefusedError) as failure:
        migrate(settings)

    assert str(failure.value) == (
        f"ClickHouse at {guarded.url} refused the password of user writer: set TOKENTIDE_CLICKHOUSE_PASSWORD"
    )


def test_the_right_password_opens(guarded: ClickHouseSettings) -> None:
    assert migrate(guarded)[0] == "0001_usage_events.sql"


def test_a_user_who_may_only_read_is_told_which_right_is_missing(guarded: ClickHouseSettings) -> None:
    migrate(guarded)
    settings = ClickHouseSettings(url=guarded.url, user="reader", password=PASSWORD)
    client = connect(settings)

    with pytest.raises(StorageRefusedError) as failure, translated(settings, "insert"):
        client.command("INSERT INTO alert_events (alert_id) VALUES ('a')")
    client.close()

    assert str(failure.value) == (
        f"ClickHouse at {guarded.url} refused to insert: Cannot execute query in readonly mode (code 164); "
        "grant user reader the right, or set TOKENTIDE_CLICKHOUSE_USER"
    )


def test_a_table_that_is_missing_asks_for_a_migration(empty: ClickHouseSettings) -> None:
    client = connect(empty, database="")

    with (
        pytest.raises(StorageRefusedError, match=r"refused to count.*\(code 60\); run `tokentide migrate`"),
        translated(empty, "count"),
    ):
        client.query("SELECT count() FROM system.usage_events")
    client.close()


def codes(handling: Handling) -> list[int]:
    """The codes of ClickHouse that are handled so."""
    return [code for code, failure in CLICKHOUSE.items() if failure.handling is handling]


@pytest.mark.parametrize("code", codes(Handling.RETRY))
def test_what_may_pass_is_worth_another_try(code: int) -> None:
    error = translate(fault(code, f"Code: {code}. DB::Exception: busy"), HERE, "insert into usage_events")

    assert isinstance(error, ServiceUnavailableError)
    assert str(error) == (
        f"ClickHouse at http://127.0.0.1:8123 cannot insert into usage_events now: busy "
        f"(code {code}, {CLICKHOUSE[code].name})"
    )


@pytest.mark.parametrize("code", [*codes(Handling.STOP), 27, 53, 62, 117, 1002, 99999])
def test_what_will_never_pass_stops_the_sink_and_says_what_to_do(code: int) -> None:
    error = translate(fault(code, "Code: 1. DB::Exception: no"), HERE, "insert")

    advice = CLICKHOUSE[code].advice if code in CLICKHOUSE else "mend that and start again"
    assert isinstance(error, StorageRefusedError)
    assert not isinstance(error, RowRefusedError)
    assert str(error).endswith(advice.format(user="writer"))


@pytest.mark.parametrize("code", codes(Handling.DEAD_LETTER))
def test_what_one_row_is_to_blame_for_names_the_reason_for_the_dead_letter(code: int) -> None:
    error = translate(fault(code, f"Code: {code}. DB::Exception: {'no' * 5000}"), HERE, "insert")

    assert isinstance(error, RowRefusedError)
    assert error.reason.startswith("ClickHouse: nono")
    assert error.reason.endswith(f"(code {code}, {CLICKHOUSE[code].name})")
    assert len(error.reason) < 2048


def test_the_names_are_those_that_clickhouse_gives_its_codes(settings: ClickHouseSettings) -> None:
    client = connect(settings)
    asked = "SELECT code, name FROM system.errors SETTINGS system_events_show_zero_values = 1"
    names = {code: name for code, name in client.query(asked).result_rows}
    client.close()

    assert {code: names[code] for code in CLICKHOUSE} == {
        code: failure.name for code, failure in CLICKHOUSE.items()
    }


@pytest.mark.parametrize(
    ("status", "is_retryable"),
    [
        (301, False),
        (404, False),
        (403, False),
        (408, True),
        (429, True),
        (500, True),
        (502, True),
        (503, True),
    ],
)
def test_an_answer_of_a_proxy_is_judged_by_its_status(status: int, is_retryable: bool) -> None:
    error = translate(OperationalError(f"HTTP driver received HTTP status {status}"), HERE, "log in")

    assert isinstance(error, ServiceUnavailableError if is_retryable else StorageRefusedError)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError("timed out"),
        ProtocolError("Connection broken"),
        OperationalError("Error ConnectionError executing HTTP request"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_connection_is_worth_another_try(error: Exception) -> None:
    translated_error = translate(error, HERE, "insert")

    assert isinstance(translated_error, ServiceUnavailableError)
    assert "start it, or set TOKENTIDE_CLICKHOUSE_URL" in str(translated_error)


def test_a_certificate_that_is_not_trusted_is_not_tried_again() -> None:
    error = translate(OperationalError("SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] unable"), HERE, "log in")

    assert isinstance(error, StorageRefusedError)
    assert "TLS certificate that is not trusted" in str(error)


def test_a_server_that_is_no_clickhouse_is_named() -> None:
    class Teapot(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Teapot) as teapot:
        serving = threading.Thread(target=teapot.serve_forever, args=(0.01,))
        serving.start()
        url = f"http://127.0.0.1:{teapot.server_port}"
        with pytest.raises(StorageRefusedError, match=r"answered HTTP 404.*check TOKENTIDE_CLICKHOUSE_URL"):
            connect(ClickHouseSettings(url=url))
        teapot.shutdown()
        serving.join()


def test_a_message_is_one_line_without_clickhouse_s_decoration(empty: ClickHouseSettings) -> None:
    client = connect(empty, database="")

    with pytest.raises(StorageRefusedError) as failure, translated(empty, "count"):
        client.query("SELECT carbon_grams\n FROM system.one")
    client.close()

    message = str(failure.value)
    assert "\n" not in message
    assert "DB::Exception" not in message
    assert "(version" not in message
    assert "carbon_grams" in message


def test_a_password_never_shows_in_a_message(guarded: ClickHouseSettings, tmp_path: Path) -> None:
    (tmp_path / "0001_wrong.sql").write_text("SELECT carbon_grams FROM system.one")

    with pytest.raises(StorageRefusedError) as failure:
        migrate(ClickHouseSettings(guarded.url, "writer", PASSWORD, "other"), tmp_path)

    assert PASSWORD not in str(failure.value)
