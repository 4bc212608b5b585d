"""One metered call of anything: its usage is read by a function of the service, or told in numbers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tokentide.producers.extraction import ChunkReader, extract
from tokentide.producers.observation import Observation, Tracker
from tokentide.producers.observation_tally import complain
from tokentide.producers.usage import Usage
from tokentide.schemas.provider import canonical_provider

__all__ = ["CallSpec", "Found", "MeteredCall", "ReadUsage"]

Found = Usage | Mapping[str, Any]
ReadUsage = Callable[[Any], Found | None]

_UNKNOWN = "unknown"


class CallSpec(NamedTuple):
    """What is known of every call of one kind; `read` finds the usage in an answer or a chunk, None: `extract`."""

    provider: str | None
    model: str | None
    api_operation: str | None
    read: ReadUsage | None
    fields: Mapping[str, Any]


class MeteredCall(Observation):
    """One call: what `with meter(...) as call` gives. Its methods never raise."""

    def __init__(self, tracker: Tracker, spec: CallSpec, *, stream: bool = False) -> None:
        super().__init__(
            tracker,
            canonical_provider(spec.provider) if spec.provider else _UNKNOWN,
            spec.api_operation or "chat",
            {},
            defaults=spec.fields,
            model=spec.model,
            stream=stream,
        )
        self._spec = spec
        self._found: Found | None = None

    def use(self, **fields: Any) -> None:
        """Say what was used, in fields of `Usage`: `call.use(input_tokens=12)`; the last one counts."""
        self._found = fields

    def answer(self, response: Any, *, request_id: str | None = None) -> None:
        """Take the whole answer, for `usage` or for `extract` to read."""
        if self._spec.read is None:
            super().answer(response, request_id=request_id)
        else:
            self._ask(self._spec.read, response)

    def opened(self) -> None:
        """Begin to read a stream; who answers may be told by its chunks alone."""
        if self._reader is None and self._spec.provider is None:
            self._reader = ChunkReader(model=self._model, api_operation=self._spec.api_operation)
        super().opened()

    def chunk(self, chunk: Any) -> None:
        """Take a chunk of a streamed answer; the first one sets `ttft_ms`."""
        super().chunk(chunk if self._spec.read is None else {})
        if self._spec.read is not None:
            self._ask(self._spec.read, chunk)

    def _ask(self, usage: ReadUsage, value: Any) -> None:
        try:
            found = usage(value)
        except Exception as error:  # of the service's own function
            complain("usage", error)
            return
        if found is not None:
            self._found = found

    def _usage(self) -> Usage | None:
        found = self._found
        if isinstance(found, Usage):
            return found
        if found is not None:
            named = {"provider": self._provider, "model": self._model or _UNKNOWN}
            return Usage(**{**named, "api_operation": self._api_operation, **found})
        if self._spec.read is not None:
            return None
        if self._answer is not None and self._spec.provider is None:
            return extract(self._answer, model=self._model, api_operation=self._spec.api_operation)
        return super()._usage()
