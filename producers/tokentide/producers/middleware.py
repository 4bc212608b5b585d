"""Attributes all calls that a web request makes to whom the request comes from."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from tokentide.producers.attribution import Attribution, attribution
from tokentide.producers.complaints import Complaints

__all__ = ["AsgiAttribution", "WsgiAttribution"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Identity = Mapping[str, Any] | None


class AsgiAttribution:
    """ASGI middleware: `app.add_middleware(AsgiAttribution, identify=who)`, or around any ASGI application.

    `identify` gets the scope of each HTTP request and websocket and returns keyword arguments of `attribution`, or
    None; it may be async. What it raises is logged, and the request goes on unattributed. Streamed answers and
    background tasks of the application are inside, too.
    """

    def __init__(self, app: AsgiApp, identify: Callable[[Scope], Identity | Awaitable[Identity]]) -> None:
        self._app = app
        self._identify = identify
        self._complaints = Complaints()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope.get("type") not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        async with _attribution_of(await self._who(scope), self._complaints):
            await self._app(scope, receive, send)

    async def _who(self, scope: Scope) -> Identity:
        try:
            found = self._identify(scope)
            return await found if inspect.isawaitable(found) else found
        except Exception as error:  # of the service's own function
            self._complaints.warn(
                "raised", f"a request is unattributed: identify raised {type(error).__name__}"
            )
            return None


class WsgiAttribution:
    """WSGI middleware: `app.wsgi_app = WsgiAttribution(app.wsgi_app, who)`.

    `identify` gets the environ of each request and returns keyword arguments of `attribution`, or None. What it
    raises is logged, and the request goes on unattributed. A streamed answer is inside, too.
    """

    def __init__(
        self, app: Callable[..., Iterable[bytes]], identify: Callable[[dict[str, Any]], Identity]
    ) -> None:
        self._app = app
        self._identify = identify
        self._complaints = Complaints()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        try:
            found = self._identify(environ)
        except Exception as error:  # of the service's own function
            self._complaints.warn(
                "raised", f"a request is unattributed: identify raised {type(error).__name__}"
            )
            found = None
        who = _attribution_of(found, self._complaints)
        with who:
            body = self._app(environ, start_response)
        wrapper = environ.get("wsgi.file_wrapper")
        # Bytes that are there already call no model, and servers send files and lists by better means.
        if isinstance(body, list | tuple) or (isinstance(wrapper, type) and isinstance(body, wrapper)):
            return body
        return _Body(body, who)


class _Body:
    """The answer of a WSGI application, each part of it made inside the attribution and handed out outside."""

    def __init__(self, body: Iterable[bytes], who: Attribution) -> None:
        self._body = body
        self._who = who
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._who:
            if self._parts is None:
                self._parts = iter(self._body)
            return next(self._parts)

    def close(self) -> None:
        """Close the answer, as servers do at its end."""
        close = getattr(self._body, "close", None)
        if close is not None:
            with self._who:
                close()


def _attribution_of(found: Identity, complaints: Complaints) -> Attribution:
    try:
        return attribution(**(found or {}))
    except Exception:  # no mapping, or one that fails
        complaints.warn(
            "returned", "a request is unattributed: identify must return a mapping of names to values"
        )
        return attribution()
