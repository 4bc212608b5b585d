"""Loopback ports: is this one free, and which ones are."""

import fcntl
import os
import random
import socket
import threading
from collections.abc import Collection

from tokentide.console.kafka.jars import cache_directory
from tokentide.schemas.errors import ServiceUnavailableError, SettingsError

__all__ = ["HOST", "check_port", "free_ports", "ports_in_a_row"]

HOST = "127.0.0.1"
# Below the ranges from which Linux (32768+) and macOS (49152+) take the ports of outgoing connections:
# none of those can slip in between our look and the broker's bind.
_RANGE = range(17000, 32000)
_lock = threading.Lock()
_claims: int | None = None
_claimed = set[int]()


def check_port(port: int, way_out: str = "choose another port", host: str = HOST) -> None:
    """Raise `SettingsError`, which ends in the `way_out`, unless a server could listen on the port now."""
    if not 0 < port < 65536:
        raise SettingsError(f"{port} is no TCP port; choose one between 1024 and 65535.")
    try:
        _bind(port, host)
    except OSError as error:
        raise SettingsError(
            f"Port {port} on {host} cannot be used ({error}); stop what listens there, {way_out}."
        ) from error


def free_ports(count: int, *, taken: Collection[int] = ()) -> list[int]:
    """`count` loopback ports on which nothing listens now and which are not in `taken`.

    They are not given out a second time while this process lives, to any process of this user: a broker takes
    seconds until it listens.
    """
    found: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if port not in taken and _is_free(port) and _claim(port):
            found.append(port)
        if len(found) == count:
            return found
    raise ServiceUnavailableError(
        f"No {count} free ports between {_RANGE.start} and {_RANGE.stop} on {HOST}."
    )


def ports_in_a_row(count: int) -> int:
    """The first of so many such ports with consecutive numbers."""
    for first in random.sample(_RANGE, len(_RANGE)):
        if all(_is_free(port) and _claim(port) for port in range(first, first + count)):
            return first
    raise ServiceUnavailableError(
        f"No {count} free ports in a row between {_RANGE.start} and {_RANGE.stop} on {HOST}."
    )


def _is_free(port: int) -> bool:
    try:
        _bind(port, HOST)
    except OSError:
        return False
    return True


def _bind(port: int, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a connection in TIME_WAIT does not block the port, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def _claim(port: int) -> bool:
    """Lock the byte of this number in a file that all our processes share; the kernel unlocks it when we end."""
    global _claims
    with _lock:
        if _claims is None:
            # Opened once and never closed: closing any descriptor of it would give up all locks of this process.
            folder = cache_directory()
            folder.mkdir(parents=True, exist_ok=True)
            _claims = os.open(folder / "ports.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if port in _claimed:
            return False
        try:
            fcntl.lockf(_claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except BlockingIOError:
            return False
        _claimed.add(port)
        return True
