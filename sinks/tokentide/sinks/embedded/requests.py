"""One request to ClickHouse's HTTP interface: parameters, settings, and the statement with its rows."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from itertools import chain
from urllib.parse import parse_qsl, urlsplit

from tokentide.sinks.embedded.bodies import RequestBody
from tokentide.sinks.embedded.faults import Fault
from tokentide.sinks.embedded.statement import InlineData, Statement, find_inline_data

__all__ = ["Parameters", "Rows", "read_form", "read_statement"]

# As in ClickHouse.
_MAX_STATEMENT_BYTES = 256 * 1024
_MAX_FORM_BYTES = 16 * 1024 * 1024
_FIRST_LOOK_BYTES = 64 * 1024
# Parameters of the HTTP interface itself; everything else is a setting.
_TRANSPORT = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "close_session",
        "compress",
        "database",
        "decompress",
        "default_format",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)


class Parameters:
    """The parameters of one request, sorted by what they mean; the last of a name wins."""

    def __init__(self, target: str, headers: Message) -> None:
        pairs = parse_qsl(urlsplit(target).query, keep_blank_values=True, errors="surrogateescape")
        self.all: dict[str, str] = dict(pairs)
        self._headers = headers

    @property
    def query(self) -> bytes:
        """The statement in the URL, or its beginning."""
        return self.all.get("query", "").encode(errors="surrogateescape")

    @property
    def query_id(self) -> str:
        """The client's query id; without one a new one."""
        return self.all.get("query_id") or str(uuid.uuid4())

    @property
    def database(self) -> str:
        """The database of unqualified names, empty for `default`."""
        return self._headers.get("X-ClickHouse-Database") or self.all.get("database", "")

    @property
    def default_format(self) -> str:
        """The output format of a statement that names none."""
        return self._headers.get("X-ClickHouse-Format") or self.all.get("default_format") or "TabSeparated"

    @property
    def waits_for_end(self) -> bool:
        """Whether no byte may be sent before the statement has ended well."""
        return self.all.get("wait_end_of_query") in ("1", "true")

    @property
    def settings(self) -> dict[str, str]:
        """What the statement runs with."""
        return {n: v for n, v in self.all.items() if n not in _TRANSPORT and not n.startswith("param_")}

    @property
    def bound(self) -> dict[str, str]:
        """The values for `{name:Type}` in the statement."""
        return {n.removeprefix("param_"): v for n, v in self.all.items() if n.startswith("param_")}

    def check(self) -> None:
        """Refuse what this server cannot do; raises Fault."""
        for name in ("compress", "decompress"):
            if self.all.get(name) in ("1", "true"):
                message = f"{name}=1 is not supported; use Content-Encoding and Accept-Encoding instead"
                raise Fault.new(48, "NOT_IMPLEMENTED", message)


@dataclass(frozen=True)
class Rows:
    """An INSERT with its rows still in the request body."""

    data: InlineData
    pieces: Iterator[bytes]


def read_statement(query: bytes, body: Iterator[bytes]) -> Statement | Rows:
    """The statement of a request: `query` and the body behind it, as one text.

    Of an INSERT only the beginning is read here; its rows stay in the iterator that Rows holds.
    """
    text = query
    look = _FIRST_LOOK_BYTES
    separator = b"\n" if query else b""
    for piece in body:
        text += separator + piece
        separator = b""
        if len(text) < look:
            continue
        data = find_inline_data(text)
        # A word that touches the end of what is read may go on in the next piece.
        if data is not None and data.start + 2 < len(text):
            return Rows(data, chain((text[data.start :],), body))
        if len(text) > _MAX_STATEMENT_BYTES:
            message = (
                f"Max query size exceeded: a statement without rows may have {_MAX_STATEMENT_BYTES} bytes"
            )
            raise Fault.new(62, "SYNTAX_ERROR", message)
        look = 2 * len(text)
    data = find_inline_data(text)
    if data is not None:
        return Rows(data, chain((text[data.start :],), body))
    if not text.strip():
        raise Fault.new(62, "SYNTAX_ERROR", "Syntax error: Empty query")
    return Statement(text)


def read_form(content_type: str, body: RequestBody) -> dict[str, str]:
    """The text fields of a multipart form; Fault for a file in it (external tables)."""
    boundary = content_type.partition("boundary=")[2].strip('"; ').encode()
    fields: dict[str, str] = {}
    text = b""
    for piece in body.pieces():
        text += piece
        if len(text) > _MAX_FORM_BYTES:
            raise Fault.new(62, "SYNTAX_ERROR", f"A form may have {_MAX_FORM_BYTES} bytes")
    for part in (b"\r\n" + text).split(b"\r\n--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        described = dict(
            item.strip().partition("=")[::2]
            for item in head.decode("latin-1").replace("\r\n", ";").split(";")
        )
        if "filename" in described and described.get("name", "").strip('"') != "query":
            raise Fault.new(48, "NOT_IMPLEMENTED", "External tables are not supported")
        fields[described.get("name", "").strip('"')] = value.decode(errors="surrogateescape")
    return fields
