"""The proxy between sinks and ClickHouse: what it lets through, and what it breaks."""

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from faults.proxy import FaultProxy


class Recorder(BaseHTTPRequestHandler):
    """Remembers what arrived whole, and answers with its length."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        self.bodies.append(body)
        answer = str(length).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def stored() -> list[bytes]:
    """What the server behind the proxy was sent."""
    return []


@pytest.fixture
def proxy(stored: list[bytes]) -> Iterator[FaultProxy]:
    """A proxy before a server."""
    handler = type("Handler", (Recorder,), {"bodies": stored})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with FaultProxy(f"http://127.0.0.1:{server.server_port}") as running:
            yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def post(proxy: FaultProxy, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=10)
    try:
        connection.request("POST", "/", body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_trouble_everything_passes(proxy: FaultProxy, stored: list[bytes]) -> None:
    assert post(proxy, b"x" * 500_000) == (200, b"500000")
    assert stored == [b"x" * 500_000]
    assert proxy.met == {}


def test_a_refusal_never_reaches_the_server(proxy: FaultProxy, stored: list[bytes]) -> None:
    proxy.trouble("refuse", 30, 503)

    assert post(proxy, b"row")[0] == 503
    assert (stored, proxy.met) == ([], {"refuse": 1})


def test_a_lost_answer_is_of_a_request_that_the_server_has_dealt_with(
    proxy: FaultProxy, stored: list[bytes]
) -> None:
    proxy.trouble("lose", 30)

    with pytest.raises(http.client.RemoteDisconnected):
        post(proxy, b"row")
    assert stored == [b"row"]


def test_a_cut_request_arrives_in_half(proxy: FaultProxy, stored: list[bytes]) -> None:
    proxy.trouble("cut", 30)

    with pytest.raises(http.client.RemoteDisconnected):
        post(proxy, b"row" * 1000)
    assert stored == []


def test_a_hanging_request_ends_with_the_trouble_and_the_next_one_passes(
    proxy: FaultProxy, stored: list[bytes]
) -> None:
    proxy.trouble("hang", 0.3)
    began = time.monotonic()

    with pytest.raises(http.client.RemoteDisconnected):
        post(proxy, b"lost")
    assert time.monotonic() - began >= 0.3
    assert post(proxy, b"row") == (200, b"3")
    assert stored == [b"row"]
