"""The HTTP interface: its paths, and what each answers."""

import asyncio
import time
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any

try:
    from fastapi import FastAPI, Query, Request, Response, Security
    from fastapi.exceptions import RequestValidationError
    from fastapi.security import APIKeyHeader, HTTPBearer
    from starlette.exceptions import HTTPException
except ImportError as error:
    raise ImportError(f"The HTTP door needs FastAPI ({error}): pip install 'tokentide[ingest]'") from error

from tokentide.console.ingest.door import Door
from tokentide.console.ingest.openapi import event_schemas, request_body
from tokentide.console.ingest.outlet import Outlet
from tokentide.console.ingest.refusal import Accepted, Refusal, Refused

__all__ = ["make_app"]

_READY_SECONDS = 2.0
_REFUSALS = {
    400: "No JSON, or no event in it.",
    401: "The API key is missing or wrong.",
    408: "The body came too slowly.",
    413: "The body is too long, or holds too many events.",
    415: "Another media type.",
    422: "An event is wrong; nothing was taken.",
    429: "Too much is in flight: send the same again after Retry-After seconds.",
    503: "Kafka did not answer in time: send the same events again, with the ids of the answer.",
}
# What the document says; the keys themselves are read by the door.
_KEYS = [
    Security(HTTPBearer(auto_error=False, scheme_name="bearer")),
    Security(APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="key")),
]


def make_app(door: Door, outlet: Outlet) -> FastAPI:
    """Return the application; its OpenAPI document is at /openapi.json."""
    app = _App(
        title="tokentide ingest",
        version=version("tokentide"),
        summary="Usage of language models, from services in any language.",
        # Their pages would come from somebody else's servers.
        docs_url=None,
        redoc_url=None,
        # Behind a proxy with TLS it would send clients, and their keys, to http://.
        redirect_slashes=False,
    )
    readiness = _Readiness(outlet)

    @app.post(
        "/v1/usage",
        status_code=HTTPStatus.ACCEPTED,
        summary="Report calls of models",
        response_model=Accepted,
        responses={status: {"model": Refused, "description": said} for status, said in _REFUSALS.items()},
        dependencies=_KEYS,
        openapi_extra={"requestBody": request_body()},
    )
    async def post_usage(
        request: Request,
        partial: Annotated[bool, Query(description="Take the right events though others are wrong.")] = False,
    ) -> Response:
        accepted = await door.take(request, partial=partial)
        return Response(accepted.model_dump_json(), HTTPStatus.ACCEPTED, media_type="application/json")

    @app.get("/healthz", summary="Does the process live?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Would Kafka take events now?", responses={503: {"model": Refused}})
    async def readyz() -> dict[str, str]:
        if not await readiness.check():
            raise Refusal(503, "Kafka does not answer, or a partition of the topic has no leader.")
        return {"status": "ready"}

    @app.get("/metrics", summary="Metrics for Prometheus", response_class=Response, dependencies=_KEYS)
    async def metrics(request: Request) -> Response:
        door.admit(request.headers)
        return Response(door.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(Refusal)
    async def refuse(_request: Request, refusal: Refusal) -> Response:
        return _answer(refusal)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(_request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in error.errors())
        return _answer(Refusal(400, f"The query is wrong: {said}."))

    @app.exception_handler(HTTPException)
    async def refuse_path(_request: Request, error: HTTPException) -> Response:
        refusal = Refusal(error.status_code, f"{error.detail}: events go to POST /v1/usage.")
        refusal.headers.update(error.headers or {})
        return _answer(refusal)

    return app


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["schemas"].update(event_schemas())
        return document


class _Readiness:
    """Asks Kafka for everybody who wants to know, at most once in two seconds."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._asking = asyncio.Lock()
        self._asked_at: float | None = None
        self._ready = False

    async def check(self) -> bool:
        async with self._asking:
            if self._asked_at is None or time.monotonic() - self._asked_at > _READY_SECONDS:
                self._ready = await asyncio.to_thread(self._outlet.is_ready, _READY_SECONDS)
                self._asked_at = time.monotonic()
            return self._ready


def _answer(refusal: Refusal) -> Response:
    return Response(
        refusal.answer.model_dump_json(exclude_defaults=True),
        refusal.status,
        refusal.headers,
        media_type="application/json",
    )
