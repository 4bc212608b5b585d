"""The server process: the lock, the engine, the port, and an orderly end."""

import signal
import socket
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from tokentide.schemas.errors import SettingsError
from tokentide.sinks.embedded.accounts import Account, Accounts
from tokentide.sinks.embedded.engine import Engine
from tokentide.sinks.embedded.faults import Fault
from tokentide.sinks.embedded.handler import Handler
from tokentide.sinks.embedded.lock import PathLock
from tokentide.sinks.embedded.origin import is_loopback

__all__ = ["HttpServer", "serve"]

_MAX_STATEMENTS = 100


class Statements:
    """Counts the statements that run now; entering one too many is Fault 202, at the end Fault 236."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0
        self._is_closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            if self._is_closed:
                raise Fault.new(236, "ABORTED", "Server is shutting down")
            if self._running >= self._limit:
                message = f"Too many simultaneous queries. Maximum: {self._limit}"
                raise Fault.new(202, "TOO_MANY_SIMULTANEOUS_QUERIES", message)
            self._running += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let no further statement in."""
        with self._changed:
            self._is_closed = True

    def wait_for_none(self, seconds: float) -> bool:
        """Wait until nothing runs; False if something still runs after `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, seconds)


class HttpServer(ThreadingHTTPServer):
    """A listening port and what its handlers share."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, accounts: Accounts) -> None:
        self.accounts = accounts
        self.statements = Statements(_MAX_STATEMENTS)
        self.engine: Engine
        self.host = host
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"cannot listen on {host}:{port}: {error}; stop what uses the port, or choose another one"
            ) from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection."""
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """End every connection at once, so that no thread waits for its client any more."""
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Report an error of ours; a client that went away is none."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def serve(
    path: Path,
    port: int,
    *,
    host: str = "127.0.0.1",
    user: str | None = None,
    password: str | None = None,
    reader_user: str | None = None,
    reader_password: str | None = None,
    grace_seconds: float = 3.0,
) -> None:
    """Serve the ClickHouse data in `path` over HTTP until SIGTERM or SIGINT.

    `user` may read and write, `reader_user` may only read (without a password everybody on this host may read
    as it). Without `user` everybody may write, so then `host` must be a loopback address. Port 0 takes a free
    one. When it serves, it prints `ready http://HOST:PORT`. At the end it waits `grace_seconds` for running
    statements, then cancels those that are left, and cuts off the clients that hold theirs up.

    Blocks; must be called in the main thread of a process that does not use chDB. A taken path, a taken port
    or an open door is a SettingsError.
    """
    accounts = Accounts(list(_accounts(user, password, reader_user, reader_password)))
    if not is_loopback(host) and (accounts.is_open or (reader_user is not None and not reader_password)):
        raise SettingsError(
            f"{host} is not a loopback address: give every user a password, or serve on 127.0.0.1"
        )
    path = path.expanduser().resolve()
    if set("?&%#") & set(str(path)):
        raise SettingsError(
            f"{path} has one of ? & % # in it, which the engine cannot open: choose another path"
        )
    with PathLock(path), HttpServer(host, port, accounts) as server:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stop.set())
        server.engine = Engine(path)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        print(f"ready http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}", flush=True)
        stop.wait()
        server.shutdown()
        _finish(server, grace_seconds)


def _accounts(
    user: str | None, password: str | None, reader_user: str | None, reader_password: str | None
) -> Iterable[Account]:
    if user is not None:
        if not password:
            raise SettingsError(f"the user {user} has no password: set one, or set no user")
        yield Account(user, password, may_write=True)
    if reader_user is not None:
        if reader_user == user:
            raise SettingsError(f"{user} cannot be both the user that writes and the one that only reads")
        yield Account(reader_user, reader_password or "", may_write=False)


def _finish(server: HttpServer, grace_seconds: float) -> None:
    """Let statements end, then cancel them, then close the engine."""
    server.statements.close()
    if not server.statements.wait_for_none(grace_seconds):
        server.engine.cancel_all()
        # Time to answer that it was cancelled. A client that does not read its answer, or does not send the
        # rest of its rows, holds up its statement all the same.
        if not server.statements.wait_for_none(1.0):
            server.cut_connections()
            server.statements.wait_for_none(grace_seconds)
    server.engine.close()
