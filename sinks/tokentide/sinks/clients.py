"""Clients of ClickHouse: one a thread, no sessions, every error one of ours."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver import Client

from tokentide.sinks.failures import CLIENT_ERRORS, translate
from tokentide.sinks.settings import ClickHouseSettings

__all__ = ["Clients", "connect", "translated"]

_DEFAULT_PORTS = {"http": 8123, "https": 8443}


@contextmanager
def translated(settings: ClickHouseSettings, doing: str) -> Iterator[None]:
    """Turn the client's errors into ServiceUnavailableError and StorageRefusedError."""
    try:
        yield
    except CLIENT_ERRORS as error:
        raise translate(error, settings, doing) from error


def connect(settings: ClickHouseSettings, *, database: str | None = None) -> Client:
    """Return a new client, after a first round trip; for one thread at a time.

    `database` stands in for the one of the settings. It has no session id: a session would lock out a retry
    while the server still works on the attempt before.
    Raises ServiceUnavailableError and StorageRefusedError.
    """
    parts = urlsplit(settings.url)
    with translated(settings, "log in"):
        return clickhouse_connect.get_client(
            interface=parts.scheme,
            host=parts.hostname,
            port=parts.port or _DEFAULT_PORTS[parts.scheme],
            proxy_path=parts.path.strip("/"),
            username=settings.user,
            password=settings.password,
            database=settings.database if database is None else database,
            connect_timeout=settings.connect_timeout_seconds,
            send_receive_timeout=settings.answer_timeout_seconds,
            autogenerate_session_id=False,
            query_retries=0,
            tz_mode="aware",
            client_name="tokentide",
        )


class Clients:
    """Hands every thread its own client, made when the thread first asks."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._threads = threading.local()

    def client(self) -> Client:
        """Return the calling thread's client. Raises what `connect` raises."""
        client: Client | None = getattr(self._threads, "client", None)
        if client is None:
            client = self._threads.client = connect(self._settings)
        return client
