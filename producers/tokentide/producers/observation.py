"""One call of a model, watched from its start to its one event."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from tokentide.producers.attribution import count_unattributed, current_attribution
from tokentide.producers.extraction import ChunkReader, extract
from tokentide.producers.intake import now
from tokentide.producers.observation_tally import complain, tally
from tokentide.producers.usage import Usage, event_id_of, joined_metadata

__all__ = ["Guards", "Observation", "Tracker"]

# An error code of a provider is one word; anything longer may quote the prompt.
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_ERROR_MESSAGE = 200
_MAX_LABEL = 256
_UNKNOWN_MODEL = "unknown"


class Tracker(Protocol):
    """Takes the fields of a usage event; `UsageProducer` is one. `track` neither raises nor blocks."""

    def track(self, **fields: Any) -> Any:
        """Send the event that the fields of UsageEvent make."""


class Guards(Protocol):
    """Decides before a call whether it may be made; `Guard` is one."""

    def require(self, user_id: str | None, team_id: str | None, **call: Any) -> Any:
        """Return when the call may be made; raise otherwise: the exception reaches the service.

        `call` are org_id, provider, model, operation (what they are for) and estimated_tokens (input and output
        together), each None when it is not known.
        """


class Observation:
    """One call of a model, from its start (the moment this is made) to exactly one event.

    `request` is the body of the call; it is read and never changed. `defaults` are fields of UsageEvent; what
    `attribution()` said when the call began wins over them, and what the answer says wins over both. Thread-safe;
    no method raises, but `before_call` when the guard refuses.
    """

    def __init__(
        self,
        tracker: Tracker,
        provider: str,
        api_operation: str,
        request: Mapping[str, Any],
        *,
        defaults: Mapping[str, Any] | None = None,
        model: str | None = None,
        stream: bool = False,
        clock: Callable[[], datetime] = now,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._tracker = tracker
        self._provider = provider
        self._api_operation = api_operation
        self._request = request
        self._model = model or _text(request.get("model")) or None
        self._stream = stream
        self._clock = clock
        self._monotonic = monotonic
        self.begins()
        self._ttft_ms: float | None = None
        self._reader: ChunkReader | None = None
        self._answer: Any = None
        self._request_id: str | None = None
        self._process = tally.process
        # One entry, taken by whoever ends the call: list.pop() is atomic, and safe inside a finalizer.
        self._open = [True]
        attributed = current_attribution()
        self._fields: dict[str, Any] = {**(defaults or {}), **attributed}
        for name in ("tags", "metadata"):
            merged = {**((defaults or {}).get(name) or {}), **(attributed.get(name) or {})}
            if merged:
                self._fields[name] = merged

    def before_call(self, guard: Guards | None, *, estimated_tokens: int | None = None) -> None:
        """Ask the guard; what it raises reaches the caller, and a refused call gives no event but a count."""
        if guard is None:
            return
        try:
            guard.require(
                self._fields.get("user_id"),
                self._fields.get("team_id"),
                org_id=self._fields.get("org_id"),
                provider=self._provider,
                model=self._model,
                operation=self._fields.get("operation"),
                estimated_tokens=estimated_tokens,
            )
        except BaseException:
            if self._take():
                tally.add(refused=1)
            raise

    def begins(self) -> None:
        """Say that the call is made only now: a stream that nobody reads makes none, and may wait for its reader."""
        self._timestamp = self._clock()
        self._started = self._monotonic()

    def opened(self) -> None:
        """Say that the provider accepted the call and its stream begins: from now on it costs."""
        if self._reader is None:
            try:
                self._reader = ChunkReader(
                    self._provider,
                    model=self._model,
                    api_operation=self._api_operation,
                    request=self._request,
                )
            except Exception as error:
                complain("chunk", error)

    def chunk(self, chunk: Any) -> None:
        """Take a chunk of a streamed answer; the first one sets `ttft_ms`."""
        if self._ttft_ms is None:
            self._ttft_ms = (self._monotonic() - self._started) * 1000
            self._stream = True  # not every observer is told when the call begins
            self.opened()
        reader = self._reader
        if reader is not None:
            try:
                reader.add(chunk)
            except Exception as error:
                complain("chunk", error)

    def answer(self, response: Any, *, request_id: str | None = None) -> None:
        """Take the whole answer: a dict, an object of an SDK, or JSON.

        `request_id` names an answer that carries no id of its own (that of an HTTP header). It makes no event_id: a
        gateway may give several calls the same one.
        """
        self._answer = response
        self._request_id = request_id

    def end(self, error: BaseException | None = None) -> None:
        """Send the event; only the first end of a call counts.

        `error` is what ended it: an Exception is a failure; anything else a cancellation (CancelledError,
        KeyboardInterrupt, GeneratorExit: a stream that was not read to its end).
        """
        try:
            if self._take():
                ended = self._monotonic()
                fields = self._event(error, (ended - self._started) * 1000)
                count_unattributed(fields)
                self._tracker.track(**fields)
                self._reader = None  # it may hold the beginning of the text
                tally.add(observed=1)
        except Exception as failure:  # whatever goes wrong here, the service goes on
            complain("event", failure)

    def _take(self) -> bool:
        if self._process is not tally.process:
            return False  # begun before the fork: the parent goes on with it, and this is a copy that is left
        try:
            return self._open.pop()
        except IndexError:
            return False

    def _event(self, error: BaseException | None, latency_ms: float) -> dict[str, Any]:
        fields = dict(self._fields)
        fields |= {
            "provider": self._provider,
            "model": self._model or fields.get("model") or _UNKNOWN_MODEL,
            "api_operation": self._api_operation,
            "timestamp": self._timestamp,
            "stream": self._stream,
            "latency_ms": max(latency_ms, 0.0),
        }
        if self._model:
            fields["request_model"] = self._model
        if self._ttft_ms is not None:
            fields["ttft_ms"] = max(self._ttft_ms, 0.0)
        if error is not None:
            fields |= _failure(error)
        try:
            usage = self._usage()
        except Exception as failure:
            # The call was made and may cost: better an event that says so than none.
            complain("usage", failure)
            return fields | {"estimated": True}
        if usage is not None:
            read = usage.fields()
            if "metadata" in read:
                read["metadata"] = joined_metadata(fields.get("metadata", {}), read["metadata"])
            fields |= read
            if error is None and usage.finish_reason == "failed":
                # A response that failed is answered with status 200, or is the last event of a whole stream.
                fields |= {"status": "error", "error_type": "failed"}
            if usage.request_id:
                fields["event_id"] = event_id_of(usage.provider, usage.request_id)
        if self._request_id and not fields.get("request_id"):
            fields["request_id"] = self._request_id[:_MAX_LABEL]
        return fields

    def _usage(self) -> Usage | None:
        if self._answer is not None:
            return extract(
                self._answer,
                self._provider,
                model=self._model,
                api_operation=self._api_operation,
                request=self._request,
            )
        return self._reader.usage() if self._reader is not None else None


def _failure(error: BaseException) -> dict[str, Any]:
    """Return the fields of a call that failed: what kind of error, never its text, which may quote the prompt."""
    fields: dict[str, Any] = {
        "status": "error" if isinstance(error, Exception) else "cancelled",
        "error_type": type(error).__name__[:_MAX_LABEL],
    }
    request_id = getattr(error, "request_id", None)
    if isinstance(request_id, str) and request_id:
        fields["request_id"] = request_id[:_MAX_LABEL]
    status = getattr(error, "status_code", None)
    codes = [f"HTTP {status}"] if isinstance(status, int) else []
    for name in ("code", "type"):
        code = getattr(error, name, None)
        if isinstance(code, str) and _CODE.fullmatch(code) and code not in codes:
            codes.append(code)
    if codes:
        fields["error_message"] = " ".join(codes)[:_MAX_ERROR_MESSAGE]
    return fields


def _text(value: object) -> str:
    return value[:_MAX_LABEL] if isinstance(value, str) else ""
