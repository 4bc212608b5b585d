"""An HTTP response that tells when it is closed, and what is read from it."""

from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any, Protocol
from weakref import ref

__all__ = ["Body", "Watcher", "watch_body", "watch_close"]

_WATCHER, _BODY = "_tokentide_watcher", "_tokentide_body"


class Watcher(Protocol):
    """Reads a response on behalf of the service."""

    # It is reading just now: that it closes the response is its own doing, and no early end.
    pulling: bool

    def finish(self, error: BaseException | None) -> None:
        """Take note that reading has ended; called any number of times."""


class Body(Watcher, Protocol):
    """Looks at the decoded bytes that the service reads."""

    def feed(self, piece: bytes) -> None:
        """Take the next piece; never raises."""


def watch_close(response: Any, watcher: Watcher) -> None:
    """Tell the watcher when the response is closed; it is not kept alive. The response is one of httpx (or httpx2).

    Raises TypeError for another kind of response: it is unchanged then.
    """
    kind: Any = type(response)
    response.__class__ = _watched(kind)
    response.__dict__[_WATCHER] = ref(watcher)


def watch_body(response: Any, body: Body) -> None:
    """Show the body what the service reads from the response, and tell it when reading ends.

    Raises TypeError as `watch_close` does.
    """
    watch_close(response, body)
    response.__dict__[_BODY] = body


@lru_cache(maxsize=16)
def _watched(kind: Any) -> Any:
    """Return the class of the response with ears.

    A class, and no function put on the response: one that knows its response would make a cycle of the two, and the
    connection of a dropped stream would be freed late, by the garbage collector.
    """

    class Watched(kind):  # type: ignore[misc]  # the base is known at run time only
        def close(self) -> None:
            _say_left(self)
            super().close()

        async def aclose(self) -> None:
            _say_left(self)
            await super().aclose()

        def iter_bytes(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
            pieces, body = super().iter_bytes(*args, **kwargs), self.__dict__.get(_BODY)
            return pieces if body is None else _read(pieces, body)

        def aiter_bytes(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
            pieces, body = super().aiter_bytes(*args, **kwargs), self.__dict__.get(_BODY)
            return pieces if body is None else _aread(pieces, body)

        def __reduce_ex__(self, protocol: Any) -> Any:
            # Pickled, or copied, it is one of its own class: pickle finds no other by that name.
            state = super().__getstate__()
            ears = (_WATCHER, _BODY)
            return kind.__new__, (kind,), {name: state[name] for name in state if name not in ears}

    Watched.__name__, Watched.__qualname__, Watched.__module__ = (
        kind.__name__,
        kind.__qualname__,
        kind.__module__,
    )
    return Watched


def _say_left(response: Any) -> None:
    watcher_ref = response.__dict__.get(_WATCHER)
    watcher = watcher_ref() if watcher_ref is not None else None
    if watcher is not None and not watcher.pulling:
        watcher.finish(GeneratorExit())


def _read(pieces: Iterator[bytes], body: Body) -> Iterator[bytes]:
    error: BaseException | None = None
    try:
        while True:
            body.pulling = True
            try:
                piece = next(pieces)
            except StopIteration:
                return
            finally:
                body.pulling = False
            body.feed(piece)
            yield piece
    except BaseException as failure:
        error = failure
        raise
    finally:
        body.finish(error)


async def _aread(pieces: AsyncIterator[bytes], body: Body) -> AsyncIterator[bytes]:
    error: BaseException | None = None
    try:
        while True:
            body.pulling = True
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                return
            finally:
                body.pulling = False
            body.feed(piece)
            yield piece
    except BaseException as failure:
        error = failure
        raise
    finally:
        body.finish(error)
