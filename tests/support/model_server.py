"""A provider on this machine: answers the SDKs over HTTP with what a test lays down."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Answer", "ModelServer", "Recorder", "assert_says", "json_answer", "sse_answer"]


@dataclass(frozen=True)
class Answer:
    """What the server sends: `pieces` one after the other, the last one not before `release` is set."""

    pieces: Sequence[bytes]
    content_type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    release: threading.Event | None = None
    breaks_off: bool = False


def json_answer(body: Any, **more: Any) -> Answer:
    """Return an answer in one piece of JSON."""
    return Answer([json.dumps(body).encode()], **more)


def sse_answer(
    events: Sequence[dict[str, Any]], *, named: bool = False, done: bool = True, **more: Any
) -> Answer:
    """Return a stream of server-sent events; `named` as Anthropic and the Responses API do it, with their `type`."""
    pieces = [
        (f"event: {event['type']}\n" if named else "").encode()
        + b"data: "
        + json.dumps(event).encode()
        + b"\n\n"
        for event in events
    ]
    if done:
        pieces.append(b"data: [DONE]\n\n")
    return Answer(pieces, content_type="text/event-stream; charset=utf-8", **more)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that left: many tests do."""


class ModelServer:
    """Answers each path with the answers laid down for it, in turn; the last one again and again."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self._answers: dict[str, list[Answer]] = {}
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str, *answers: Answer) -> None:
        """Lay down what a POST to the path gets."""
        self._answers[path] = list(answers)

    def bodies(self) -> list[Any]:
        """Return the bodies of all requests so far."""
        return [body for _, body in self.requests]

    def close(self) -> None:
        """Stop."""
        for answers in self._answers.values():
            for answer in answers:
                if answer.release is not None:
                    answer.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _next(self, path: str, body: bytes) -> Answer:
        try:
            self.requests.append((path, json.loads(body)))
        except ValueError:
            self.requests.append((path, body))
        answers = self._answers.get(path.partition("?")[0])
        if not answers:
            return json_answer({"error": {"message": f"no answer for {path}"}}, status=404)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        following = self._next

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                answer = following(self.path, body)
                self.send_response(answer.status)
                self.send_header("content-type", answer.content_type)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                try:
                    self._send(answer)
                except OSError:  # the client left
                    self.close_connection = True

            def _send(self, answer: Answer) -> None:
                for number, piece in enumerate(answer.pieces, 1):
                    if answer.release is not None and number == len(answer.pieces):
                        answer.release.wait(30)
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    self.wfile.flush()
                if answer.breaks_off:
                    self.close_connection = True
                    return
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


class Recorder:
    """A tracker that keeps the fields of the events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def track(self, **fields: Any) -> None:
        """Keep the event."""
        self.events.append(fields)

    def only(self) -> dict[str, Any]:
        """Return the one event there is."""
        assert len(self.events) == 1, self.events
        return self.events[0]


def assert_says(event: dict[str, Any], expected: dict[str, Any], *, stream: bool = False) -> None:
    """Check the fields of a call that went well."""
    assert {name: event.get(name) for name in expected} == expected
    assert event["stream"] is stream
    assert event.get("status", "success") == "success"
    assert not event.get("estimated")
    assert 0 < event["latency_ms"] < 60_000
    assert ("ttft_ms" in event) is stream
    if stream:
        assert 0 < event["ttft_ms"] <= event["latency_ms"]
