"""One request, from its first byte to the word of Kafka."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from starlette.datastructures import Headers
from starlette.requests import Request

from tokentide.console.ingest.body import announced_bytes, read_body
from tokentide.console.ingest.gate import Gate
from tokentide.console.ingest.incoming import events_in
from tokentide.console.ingest.keys import Client, KeyRing
from tokentide.console.ingest.metrics import IngestMetrics
from tokentide.console.ingest.outlet import Outlet
from tokentide.console.ingest.reader import Reader, Reading
from tokentide.console.ingest.refusal import Accepted, Problem, Refusal
from tokentide.console.ingest.settings import SOURCE, IngestSettings
from tokentide.producers.complaints import Complaints
from tokentide.schemas import ServiceUnavailableError

__all__ = ["Door"]

_RETRY_SECONDS = 1
_LONGEST_IDEMPOTENCY_KEY = 255
# The loop is given to others after so many events: about 5 ms.
_SLICE = 100
_UNKNOWN = ""


def _now() -> datetime:
    return datetime.now(UTC)


class Door:
    """Takes usage in; for one event loop."""

    def __init__(
        self,
        settings: IngestSettings,
        keys: KeyRing,
        outlet: Outlet,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._outlet = outlet
        self._clock = clock
        self._gate = Gate(settings.max_in_flight_bytes)
        self._complaints = Complaints()
        self.metrics = IngestMetrics(lambda: self._gate.bytes_in_flight)

    def admit(self, headers: Headers) -> Client:
        """Return who asks; raises Refusal, 401, for a key that is missing or wrong."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        secret = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key")
        client = self._keys.client_of(secret)
        if client is None:
            raise Refusal(
                401,
                "Send a valid API key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return client

    async def take(self, request: Request, *, partial: bool) -> Accepted:
        """Return when the events of the request are stored; with `partial` without the wrong ones among them.

        Raises Refusal. Nothing of a request is sent that is refused, but with 503 it may be stored.
        """
        started = time.monotonic()
        name, status = _UNKNOWN, 500
        try:
            client = self.admit(request.headers)
            name = client.name
            most = self._settings.max_body_bytes
            with self._gate.hold(announced_bytes(request.headers, most)) as shrink:
                body = await read_body(request, most)
                shrink(len(body))
                accepted = await self._store(client, request.headers, body, partial)
            status = 202
            return accepted
        except Refusal as refusal:
            status = refusal.status
            raise
        finally:
            self.metrics.count_request(name, status, time.monotonic() - started)

    async def _store(self, client: Client, headers: Headers, body: bytes, partial: bool) -> Accepted:
        key = headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= _LONGEST_IDEMPOTENCY_KEY:
            raise Refusal(400, f"Idempotency-Key must have 1 to {_LONGEST_IDEMPOTENCY_KEY} characters.")
        readings = await self._read(
            Reader(
                client,
                self._clock(),
                source=SOURCE,
                max_future_seconds=self._settings.max_future_seconds,
                idempotency_key=key,
            ),
            events_in(headers, body),
        )
        event_ids = [reading.event_id for reading in readings]
        problems = [reading.problem for reading in readings if reading.problem is not None]
        self.metrics.count_events(client.name, "refused", len(problems))
        taken = len(readings) - len(problems)
        if problems and not (partial and taken):
            raise Refusal(422, _summary(problems, len(readings), partial), problems=problems)
        try:
            await self._outlet.store([each.record for each in readings if each.record is not None])
        except ServiceUnavailableError as error:
            self.metrics.count_events(client.name, "unsure", taken)
            self._complaints.warn("unsure", f"events may not be stored: {error}")
            raise Refusal(
                503,
                f"Kafka did not store everything in time ({error}): send the events again, with these event_ids.",
                problems=problems,
                event_ids=event_ids,
                headers={"Retry-After": str(_RETRY_SECONDS)},
            ) from error
        self.metrics.count_events(client.name, "stored", taken)
        return Accepted(accepted=taken, event_ids=event_ids, problems=problems)

    async def _read(self, reader: Reader, events: list[object]) -> list[Reading]:
        readings: list[Reading] = []
        for reading in reader.read(events):
            readings.append(reading)
            if not len(readings) % _SLICE:
                await asyncio.sleep(0)
        return readings


def _summary(problems: list[Problem], events: int, partial: bool) -> str:
    if events == 1:
        return f"The event is wrong: {problems[0].problem}."
    if partial:
        return f"All {events} events are wrong: nothing was taken."
    return (
        f"{len(problems)} of {events} events are wrong: nothing was taken; mend them, or add ?partial=true."
    )
