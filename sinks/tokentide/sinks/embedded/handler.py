"""ClickHouse's HTTP interface on one connection."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tokentide.sinks.embedded.answers import Answer
from tokentide.sinks.embedded.bodies import BrokenBody, RequestBody
from tokentide.sinks.embedded.encodings import choose_encoding
from tokentide.sinks.embedded.engine import Session
from tokentide.sinks.embedded.faults import Fault
from tokentide.sinks.embedded.formats import content_type
from tokentide.sinks.embedded.origin import check_origin
from tokentide.sinks.embedded.requests import Parameters, Rows, read_form, read_statement
from tokentide.sinks.embedded.statement import Statement

if TYPE_CHECKING:
    from tokentide.sinks.embedded.server import HttpServer

__all__ = ["Handler"]

_ALIVE = frozenset({"/ping", "/replicas_status"})


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one client, one after the other, in a thread of its own."""

    server: "HttpServer"
    protocol_version = "HTTP/1.1"
    server_version = "tokentide-clickhouse"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    timeout = 300

    def do_GET(self) -> None:
        """Answer a GET, which may only read."""
        self._answer(is_get=True)

    def do_HEAD(self) -> None:
        """Answer a HEAD, the way to ask whether the server is there."""
        self._send_text(200, "")

    def do_POST(self) -> None:
        """Answer a POST, which may do what its account may do."""
        self._answer(is_get=False)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the client gets every error."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status line and the headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def write(self, data: bytes) -> None:
        """Send a part of the body as it is; blocks until the client reads."""
        self.wfile.write(data)

    def cut(self) -> None:
        """End the connection behind what was sent."""
        self.close_connection = True

    def _answer(self, *, is_get: bool) -> None:
        path = urlsplit(self.path).path
        body = RequestBody(self.rfile, self.headers)
        with suppress(ConnectionError, TimeoutError, BrokenBody):
            if path in _ALIVE:
                self._send_text(200, "Ok.\n")
            elif path != "/":
                self._drain(body)
                self._send_text(404, f"There is no handle {path}; send statements to /\n")
            elif is_get and "query" not in self.path:
                self._send_text(200, "Ok.\n")
            else:
                self._run(body, is_get=is_get)
            self.wfile.flush()
            return
        self.close_connection = True

    def _run(self, body: RequestBody, *, is_get: bool) -> None:
        parameters = Parameters(self.path, self.headers)
        engine = self.server.engine
        headers = {
            "X-ClickHouse-Query-Id": parameters.query_id,
            "X-ClickHouse-Server-Display-Name": engine.name,
            "X-ClickHouse-Timezone": engine.timezone,
        }
        try:
            with self.server.statements:
                self._execute(parameters, body, headers, is_get=is_get)
        except Fault as fault:
            self._drain(body)
            Answer(self, headers, self.server.engine.spool).send_fault(fault, engine.version)

    def _execute(
        self, parameters: Parameters, body: RequestBody, headers: dict[str, str], *, is_get: bool
    ) -> None:
        check_origin(self.headers, is_open=self.server.accounts.is_open)
        account = self.server.accounts.find(self.headers, parameters.all)
        parameters.check()
        form = self.headers.get("Content-Type", "")
        if form.startswith("multipart/form-data"):
            parameters.all.update(read_form(form, body))
        statement = read_statement(parameters.query, body.pieces())
        session = Session(
            may_write=account.may_write,
            is_readonly=is_get,
            database=parameters.database,
            settings=parameters.settings,
            parameters=parameters.bound,
        )
        if isinstance(statement, Rows):
            outcome = self.server.engine.insert(statement.data, statement.pieces, session)
            written = {"written_rows": outcome.written_rows, "written_bytes": outcome.written_bytes}
            Answer(self, headers, self.server.engine.spool).send_summary(written)
        else:
            self._execute_whole(statement, parameters, session, headers)

    def _execute_whole(
        self,
        statement: Statement,
        parameters: Parameters,
        session: Session,
        headers: dict[str, str],
    ) -> None:
        engine = self.server.engine
        reads = engine.check(statement, may_write=session.may_write and not session.is_readonly)
        format_name = statement.output_format or parameters.default_format
        shown = {**headers, "X-ClickHouse-Format": format_name, "Content-Type": content_type(format_name)}
        if reads:
            encoding = choose_encoding(self.headers, parameters.settings)
            pieces = engine.read(statement, format_name, session)
            answer = Answer(self, shown, self.server.engine.spool)
            answer.send_result(pieces, encoding, engine.version, holds_all=parameters.waits_for_end)
        else:
            body = engine.run(statement, format_name, session)
            Answer(self, shown if body else headers, self.server.engine.spool).send_summary({}, body)

    def _drain(self, body: RequestBody) -> None:
        if not body.drain():
            self.close_connection = True

    def _send_text(self, status: int, text: str) -> None:
        data = text.encode()
        self.start(status, {"Content-Type": "text/html; charset=UTF-8", "Content-Length": str(len(data))})
        self.write(data)

    def finish(self) -> None:
        """Close the connection; a client that is already gone is no error."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            super().finish()
