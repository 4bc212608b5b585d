"""One guarded server for all these tests, and plain HTTP to it, as a client that knows nothing of ours."""

import base64
import http.client
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

if TYPE_CHECKING:
    from sinks.conftest import Server


@dataclass(frozen=True)
class Reply:
    """One answer, as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def code(self) -> int:
        """ClickHouse's error code; 0 for success, and the header and the text must agree."""
        code = int(self.headers.get("X-ClickHouse-Exception-Code", "0"))
        assert (self.status == 200) == (code == 0), self.text
        assert code == 0 or self.text.startswith(f"Code: {code}. DB::Exception: "), self.text
        return code


class Http:
    """Requests to one server as one user."""

    def __init__(self, port: int, user: str = "", password: str = "") -> None:
        self.port = port
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {token}"} if user else {}

    def __call__(
        self,
        body: bytes | str | Iterable[bytes] = b"",
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        path: str = "/",
    ) -> Reply:
        """Send one request on a connection of its own, and read the whole answer."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        data = body.encode() if isinstance(body, str) else body
        with closing(self.connect()) as connection:
            connection.request(method, target, body=data, headers={**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())

    def connect(self) -> http.client.HTTPConnection:
        """A connection, for tests that do not read the whole answer."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, server_type: "type[Server]") -> Iterator["Server"]:
    """A running server with one user who writes, `ann`, and one who only reads, `rob`."""
    passwords = {"TOKENTIDE_CLICKHOUSE_PASSWORD": "ann's", "TOKENTIDE_CLICKHOUSE_READER_PASSWORD": "rob's"}
    arguments = ["--user", "ann", "--reader", "rob"]
    server = server_type(tmp_path_factory.mktemp("guarded"), arguments, passwords)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def http_type() -> type[Http]:
    """The class, for tests with a server of their own."""
    return Http


@pytest.fixture(scope="session")
def ann(guarded: "Server") -> Http:
    """Requests of the user who may write."""
    return Http(guarded.port, "ann", "ann's")


@pytest.fixture(scope="session")
def rob(guarded: "Server") -> Http:
    """Requests of the user who may only read."""
    return Http(guarded.port, "rob", "rob's")
