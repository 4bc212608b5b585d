"""An address that refuses connections, until it is opened and leads to a broker."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["closed_door", "open_door"]


@contextmanager
def closed_door() -> Iterator[tuple[socket.socket, str]]:
    """Yield a door and its address; connections are refused."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))  # bound, but not listening
        yield door, f"127.0.0.1:{door.getsockname()[1]}"


def open_door(door: socket.socket, broker: str) -> None:
    """Forward connections to the broker from now on."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with source, target:
            while data := source.recv(65536):
                target.sendall(data)

    def accept() -> None:
        while True:
            try:
                inside, _ = door.accept()
            except OSError:
                return
            host, port = broker.split(":")
            try:
                outside = socket.create_connection((host, int(port)))
            except OSError:  # the broker has ended
                inside.close()
                continue
            threading.Thread(target=carry, args=(inside.dup(), outside.dup()), daemon=True).start()
            threading.Thread(target=carry, args=(outside, inside), daemon=True).start()

    door.listen()
    threading.Thread(target=accept, daemon=True).start()
