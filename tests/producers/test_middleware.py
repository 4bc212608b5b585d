"""The middleware: what a request makes is attributed to whom it comes from, and nothing else is."""

import asyncio
from collections import UserDict
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

import pytest

from tokentide.producers.attribution import current_attribution
from tokentide.producers.middleware import AsgiAttribution, WsgiAttribution

Scope = MutableMapping[str, Any]


class AsgiService:
    """An ASGI application that notes who it works for."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        self.seen.append(current_attribution())
        if scope.get("path") == "/broken":
            raise LookupError


def serve(app: AsgiAttribution, *scopes: Scope) -> list[Any]:
    """Serve the connections at the same time; return what became of each."""

    async def nothing(*_: Any) -> Any:
        return None

    async def main() -> list[Any]:
        done = await asyncio.gather(
            *(app(scope, nothing, nothing) for scope in scopes), return_exceptions=True
        )
        assert current_attribution() == {}
        return list(done)

    return asyncio.run(main())


def http(user: str, path: str = "/") -> Scope:
    return {"type": "http", "path": path, "headers": [(b"x-user", user.encode())]}


def who(scope: Scope) -> dict[str, Any]:
    return {"user_id": dict(scope["headers"])[b"x-user"].decode(), "operation": scope["path"]}


async def who_async(scope: Scope) -> dict[str, Any]:
    await asyncio.sleep(0)
    return who(scope)


@pytest.mark.parametrize("identify", [who, who_async])
def test_asgi_requests_are_attributed_each_to_its_own(identify: Any) -> None:
    service = AsgiService()

    serve(AsgiAttribution(service, identify), *(http(f"user-{number}") for number in range(5)))

    assert sorted(seen["user_id"] for seen in service.seen) == [f"user-{number}" for number in range(5)]


def test_asgi_errors_of_the_service_pass_through() -> None:
    (outcome,) = serve(AsgiAttribution(AsgiService(), who), http("ada", "/broken"))

    assert isinstance(outcome, LookupError)


def test_the_lifespan_of_a_server_is_nobodys() -> None:
    service = AsgiService()

    serve(AsgiAttribution(service, who), {"type": "lifespan"})

    assert service.seen == [{}]


class Lazy(UserDict[str, Any]):
    """A user that is looked for when somebody asks."""

    def __getitem__(self, name: str) -> Any:
        raise LookupError("no such user")


@pytest.mark.parametrize("answer", [None, "ada", {1: 2}, {"colour": "red"}, Lazy(user_id="ada")])
def test_what_identifies_nobody_leaves_the_request_unattributed(answer: Any) -> None:
    service = AsgiService()

    outcomes = serve(AsgiAttribution(service, lambda _: answer), http("ada"))

    assert (outcomes, service.seen) == ([None], [{}])


def test_an_identify_that_fails_is_logged_and_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    service = AsgiService()

    outcomes = serve(AsgiAttribution(service, lambda scope: scope["nothing"]), http("ada"))

    assert (outcomes, service.seen) == ([None], [{}])
    assert "identify raised KeyError" in caplog.text


class WsgiService:
    """A WSGI application whose answers come in every form."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.seen: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.seen.append(current_attribution())
        if self.form == "list":
            return [b"a", b"b"]
        if self.form == "file":
            body: Iterable[bytes] = environ["wsgi.file_wrapper"]()
            return body
        return self.stream()

    def stream(self) -> Iterator[bytes]:
        try:
            for part in (b"a", b"b"):
                self.seen.append(current_attribution())
                yield part
        finally:
            self.seen.append(current_attribution())


class FileWrapper:
    """What a server sends by itself."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"a", b"b"])


def test_a_wsgi_stream_is_attributed_while_it_is_made_and_not_between() -> None:
    service = WsgiService("stream")
    app = WsgiAttribution(service, lambda environ: {"user_id": environ["USER"]})

    body = app({"USER": "ada"}, lambda *_: None)
    parts = []
    for part in body:
        assert current_attribution() == {}
        parts.append(part)

    assert parts == [b"a", b"b"]
    assert service.seen == [{"user_id": "ada"}] * 4


def test_a_wsgi_stream_that_is_cut_is_closed() -> None:
    service = WsgiService("stream")
    body: Any = WsgiAttribution(service, lambda environ: {"user_id": environ["USER"]})({"USER": "ada"}, print)

    next(body)
    body.close()

    assert service.seen == [{"user_id": "ada"}] * 3
    assert current_attribution() == {}


@pytest.mark.parametrize(("form", "kind"), [("list", list), ("file", FileWrapper)])
def test_wsgi_answers_that_are_ready_stay_what_they_are(form: str, kind: type) -> None:
    body = WsgiAttribution(WsgiService(form), lambda _: None)(
        {"wsgi.file_wrapper": FileWrapper}, lambda *_: None
    )

    assert type(body) is kind


def test_a_wsgi_identify_that_fails_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    service = WsgiService("list")

    assert WsgiAttribution(service, lambda environ: environ["nothing"])({}, lambda *_: None) == [b"a", b"b"]

    assert service.seen == [{}]
