"""ClickHouse in this process: chDB, opened once, with one short-lived connection a statement."""

import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tokentide.schemas.errors import SettingsError
from tokentide.sinks.embedded.faults import Fault
from tokentide.sinks.embedded.formats import is_streamed, join_pieces
from tokentide.sinks.embedded.gate import IS_SUSPECT, NEEDS_LITERALS, check_effect, check_insert, check_reach
from tokentide.sinks.embedded.grants import write_configuration
from tokentide.sinks.embedded.statement import InlineData, Statement

__all__ = ["Engine", "Outcome", "Session"]

_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STREAMED_STATEMENTS = frozenset({"SELECT", "WITH", "FROM"})
_FORMATTER = re.compile(r"(?:: )?In scope SELECT formatQuerySingleLine.*(?= \(\w+\)$)", re.DOTALL)
_TOTALS = re.compile(rb"\bwith\s+totals\b", re.IGNORECASE)
_SPOOLED = re.compile(
    r": \(in file/uri /dev/fd/\d+\)|: While executing File: data for INSERT was parsed from file"
)
_UNPARSED = "UNKNOWN"
# Room for a whole statement as a literal, with every byte escaped.
_KEEPER_OPTIONS = "&max_query_size=1048576"


@dataclass(frozen=True)
class Session:
    """What a request brings besides its statement: the database, settings, parameters and rights."""

    may_write: bool = True
    is_readonly: bool = False
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What an INSERT wrote, without what materialized views made of it."""

    written_rows: int
    written_bytes: int


class Engine:
    """The engine on one data path; the whole process can have one.

    Every method may be called from many threads at once and blocks its own thread only: chDB releases the
    interpreter while it works. What the engine refuses is a Fault.
    """

    def __init__(self, path: Path) -> None:
        self.spool = path / "server"
        """A folder for files that need no name."""
        try:
            self._url = f"{path}?config-file={write_configuration(self.spool)}"
            identity = _put_aside_default(path / "metadata")
            self._connect, connect_raw = _load_chdb(self.spool / "tmp")
            self._keeper: Any = connect_raw(self._url + _KEEPER_OPTIONS)
        except (RuntimeError, OSError) as error:
            raise SettingsError(f"cannot open {path} as a ClickHouse data path: {error}") from error
        self._keeper_lock = threading.Lock()
        self._make_default_atomic(identity)
        facts = self._keeper.query("SELECT version(), timezone(), hostName()", "TabSeparated").bytes()
        self.version, self.timezone, self.name = facts.decode().rstrip("\n").split("\t")

    def _make_default_atomic(self, identity: str | None) -> None:
        """Mount `default` as the Atomic database it is on disk: chDB lays the file system over it."""
        self._keeper.query("DETACH DATABASE default SETTINGS check_table_dependencies = 0")
        if identity is None:
            self._keeper.query("CREATE DATABASE default ENGINE = Atomic")
        else:
            self._keeper.query(f"ATTACH DATABASE default UUID '{identity}' ENGINE = Atomic")

    def close(self) -> None:
        """Close the engine; it stops when the last statement has ended."""
        self._keeper.close()

    def cancel_all(self) -> None:
        """Ask every running statement to stop; each then fails with code 394."""
        with self._keeper_lock:
            self._keeper.query("KILL QUERY WHERE query_id != queryID() ASYNC")

    def check(self, statement: Statement, *, may_write: bool) -> bool:
        """Refuse a statement by what the engine's parser makes of it; return whether it only reads."""
        with self._keeper_lock:
            report = self._keeper.classify_query(statement.sql)
            effect, count = report["query_class"].name, int(report["statement_count"])
            is_suspect = count == 1 and IS_SUSPECT.search(statement.sql) is not None
            # The formatter raises the syntax error of what the parser did not understand.
            formatted = self._format(statement.sql) if is_suspect or effect == _UNPARSED else b""
        check_effect(effect, count, may_write=may_write)
        check_reach(Statement(formatted))
        return bool(effect == "READ_ONLY")

    def _format(self, sql: bytes) -> bytes:
        try:
            literal = sql.replace(b"\\", b"\\\\").replace(b"'", b"\\'")
            result = self._keeper.query(b"SELECT formatQuerySingleLine('" + literal + b"')", "RawBLOB")
        except RuntimeError as error:
            fault = self._fault(error)
            raise Fault(fault.code, _FORMATTER.sub("", fault.text)) from error
        return cast(bytes, result.bytes())

    def read(self, statement: Statement, format_name: str, session: Session) -> Iterator[bytes]:
        """The result of a statement that only reads, in pieces where the format and the statement allow it.

        Closing the iterator cancels the statement.
        """
        can_stream = is_streamed(format_name) and statement.first in _STREAMED_STATEMENTS
        if not can_stream or _TOTALS.search(statement.sql):
            yield self.run(statement, format_name, session)
            return
        is_empty = True
        with self._connection(session) as connection:
            try:
                with connection.send_query(statement.sql, format_name, params=session.parameters) as result:
                    for piece in join_pieces(format_name, (piece.bytes() for piece in result)):
                        is_empty = False
                        yield piece
            except RuntimeError as error:
                raise self._fault(error) from error
        if is_empty:
            # A stream without rows ends without a piece; only a whole document shows the columns.
            yield self.run(statement, format_name, session)

    def run(self, statement: Statement, format_name: str, session: Session) -> bytes:
        """The whole result of any statement without inline rows."""
        with self._connection(session) as connection:
            try:
                result = connection.query(statement.sql, format_name, params=session.parameters)
            except RuntimeError as error:
                raise self._fault(error) from error
            return cast(bytes, result.bytes())

    def insert(self, data: InlineData, rows: Iterator[bytes], session: Session) -> Outcome:
        """Insert `rows`, which are all read before the first is inserted.

        They lie in a file without a name meanwhile: chDB's own streaming insert does not report what goes wrong
        behind the parser (a constraint, a view, too many parts), and a lost row must not look like a taken one.
        The expressions of `VALUES` are evaluated unless they could read files; then only literals are.
        """
        check_insert(Statement(data.head), may_write=session.may_write and not session.is_readonly)
        options = ""
        with tempfile.TemporaryFile(dir=self.spool) as file:
            try:
                if data.format.lower() == "values":
                    values = b"".join(rows)
                    rows = iter((values,))
                    if not NEEDS_LITERALS.search(values):
                        options = "&input_format_values_interpret_expressions=1"
                file.writelines(rows)
                file.seek(0)
            except OSError as error:
                if isinstance(error, ConnectionError | TimeoutError):
                    raise
                raise Fault.new(243, "NOT_ENOUGH_SPACE", f"Cannot hold the rows: {error}") from error
            source = f"FROM INFILE '/dev/fd/{file.fileno()}' COMPRESSION 'none'".encode()
            sql = b"\n".join((data.head, source, data.settings, b"FORMAT " + data.format.encode()))
            with self._connection(session, options) as connection:
                try:
                    result = connection.query(sql, "TabSeparated", params=session.parameters)
                except RuntimeError as error:
                    fault = self._fault(error)
                    raise Fault(fault.code, _SPOOLED.sub("", fault.text)) from error
                return Outcome(result.rows_read(), result.bytes_read())

    def _fault(self, error: RuntimeError) -> Fault:
        """The fault in an error of the engine; ends the process when the engine itself has ended."""
        fault = Fault.of_engine(error)
        if fault.code == 236 and "fatal error" in fault.text:
            print(
                f"the engine has crashed, start this server again: {fault.text}", file=sys.stderr, flush=True
            )
            os._exit(1)
        return fault

    @contextmanager
    def _connection(self, session: Session, options: str = "") -> Iterator[Any]:
        """A connection of its own, so that no USE, SET or temporary table outlives the statement."""
        is_readonly = session.is_readonly or not session.may_write
        connection = self._connect(self._url + options + ("&readonly=2" if is_readonly else ""))
        try:
            if session.database:
                self._command(connection, "USE " + _quote(session.database, "`"))
            self._set(connection, session.settings)
            yield connection
        finally:
            connection.close()

    def _set(self, connection: Any, settings: Mapping[str, str]) -> None:
        for name in settings:
            if not _SETTING_NAME.fullmatch(name):
                raise Fault.new(
                    115, "UNKNOWN_SETTING", f"Setting {name} is neither a builtin setting nor custom"
                )
        # `readonly` comes last: behind it nothing more can be set.
        for is_last in (False, True):
            pairs = [
                f"{name} = {_quote(settings[name])}" for name in settings if (name == "readonly") is is_last
            ]
            if pairs:
                self._command(connection, "SET " + ", ".join(pairs))

    def _command(self, connection: Any, sql: str) -> None:
        try:
            connection.query(sql, "TabSeparated")
        except RuntimeError as error:
            raise self._fault(error) from error


def _load_chdb(folder: Path) -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    """Return how connections are made: as chDB's users do it, and below that, with more methods.

    On import chDB runs an engine for a moment, in a folder `clickhouse-embedded-...` among the temporary files. A
    process that is killed then leaves it behind: in `folder` it is found, and removed at the next start.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        import chdb
        from chdb.state import connect
    except ImportError as error:
        raise ImportError("the embedded ClickHouse needs chdb: pip install 'tokentide[embedded]'") from error
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before
    return connect, cast(Any, chdb._chdb).connect


def _put_aside_default(metadata: Path) -> str | None:
    """Return the UUID of the database `default` of an earlier start, None before the first.

    Its file must not be there when the engine starts: with it, chDB's own `default` takes the UUID, and loses it
    when it is detached. Mounting the database by its UUID writes the file again.
    """
    file, aside = metadata / "default.sql", metadata / "default.sql.aside"
    if file.exists():
        file.replace(aside)
    if not aside.exists():
        return None
    (metadata / "default.sql.tmp").unlink(missing_ok=True)
    found = re.search(r"UUID '([0-9a-f-]{36})'", aside.read_text())
    return found[1] if found else None


def _quote(text: str, mark: str = "'") -> str:
    escaped = text.replace("\\", "\\\\").replace(mark, "\\" + mark)
    return f"{mark}{escaped}{mark}"
