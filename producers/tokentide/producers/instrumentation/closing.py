"""Being told when an HTTP response is closed before its end."""

import weakref
from typing import Any, Protocol

__all__ = ["Watcher", "original", "watch_close"]


class Watcher(Protocol):
    """Reads a response on behalf of the service."""

    # It is reading just now: that it closes the response is its own doing, and no early end.
    pulling: bool

    def finish(self, error: BaseException | None) -> None:
        """Take note that reading has ended; called any number of times."""


def original(response: Any, name: str) -> Any:
    """Return the method of the response, to be called with it as its argument, without keeping the response alive.

    A method that stays in the response's own __dict__ and holds the response would make a cycle: the connection of a
    dropped stream would then be freed late, by the garbage collector.
    """
    replaced = vars(response).get(name)
    if replaced is None:
        return getattr(type(response), name)
    return lambda _, *args, **kwargs: replaced(*args, **kwargs)


def watch_close(response: Any, name: str, watcher: Watcher) -> None:
    """Tell the watcher when `response.close` (or `aclose`: `name`) is called; it is not kept alive."""
    method, response_ref, watcher_ref = original(response, name), weakref.ref(response), weakref.ref(watcher)

    def left_early() -> None:
        reader = watcher_ref()
        if reader is not None and not reader.pulling:
            reader.finish(GeneratorExit())

    def close() -> Any:
        left_early()
        return method(response_ref())

    async def aclose() -> Any:
        left_early()
        return await method(response_ref())

    setattr(response, name, aclose if name == "aclose" else close)
