"""A call of LiteLLM that is under way: if nobody tells its end, it ends when LiteLLM lets go of it.

LiteLLM tells its callbacks nothing of a stream that is left, nor of a task that is cancelled. So this object is put
into LiteLLM's own record of the call (`Logging.model_call_details`). Whatever may still tell an end holds that
record: the stream, the running call, the handler that is queued. When none is left, the record is freed, and this
object with it.
"""

import time
from asyncio import CancelledError
from collections.abc import Iterable, Mapping
from typing import Any

from tokentide.producers.left_open import ends_with_the_process
from tokentide.producers.observation import Observation
from tokentide.producers.observation_tally import complain

__all__ = ["Chunks", "Clock", "OpenCall", "open_calls"]


class Clock:
    """The time of an observation, which reads chunks when they are long gone; it can be set back."""

    def __init__(self) -> None:
        self.at: float | None = None

    def __call__(self) -> float:
        """Return seconds since whenever."""
        return time.perf_counter() if self.at is None else self.at


class Chunks(list[Any]):
    """The list in which LiteLLM keeps the chunks of a stream; knows when the first came."""

    first_at: float | None = None

    def append(self, chunk: Any) -> None:
        """Add a chunk."""
        if self.first_at is None:
            self.first_at = time.perf_counter()
        super().append(chunk)


class OpenCall:
    """Sends the event of a call that LiteLLM drops, when it is dropped; `ends` says that there was an end.

    Nothing refers back to the record it is in, so both are freed as soon as LiteLLM drops them. A finalizer may run
    in any thread at any moment: here no lock is taken, and nothing raised.
    """

    def __init__(self, observation: Observation, clock: Clock, request: Mapping[str, Any]) -> None:
        self.request = request
        self._observation = observation
        self._clock = clock
        self._streams: list[Chunks] = []
        self._events = Chunks()
        self._is_opened = False
        self._answer: str | None = None
        # One entry, taken by whoever ends the call: list.pop() is atomic.
        self._open = [True]
        self._is_sent = False
        ends_with_the_process(self._leave)

    def __deepcopy__(self, memo: Any) -> "OpenCall":
        """Stay the same in copies of the record: the call ends when the last of them is freed."""
        return self

    def __reduce__(self) -> tuple[type[str], tuple[()]]:
        """Be an empty text where the record is written down."""
        return str, ()

    def __repr__(self) -> str:
        return "OpenCall()"

    @property
    def is_open(self) -> bool:
        """Whether no end was told yet."""
        return bool(self._open)

    @property
    def chunks(self) -> Chunks:
        """What came so far; LiteLLM wraps streams in streams, and not each keeps its chunks."""
        return max(self._streams, key=len, default=self._events) or self._events

    def opened(self, chunks: Chunks | None = None, *, costs: bool = True) -> None:
        """Say that a stream begins, of which `chunks` will be filled; `costs` that the provider has accepted it."""
        if chunks is not None:
            self._streams.append(chunks)
        self._is_opened = self._is_opened or costs

    def chunk(self, chunk: Any) -> None:
        """Take a chunk that LiteLLM does not keep."""
        self._events.append(chunk)

    def answered(self, answer: object) -> None:
        """Take the answer as the provider sent it, if it is one: LiteLLM also tells texts of errors here."""
        if isinstance(answer, str) and answer.lstrip().startswith("{"):
            self._answer = answer

    def ends(self) -> bool:
        """Say that LiteLLM tells the end; return False when the event was sent already: as the process ended."""
        try:
            self._open.pop()
        except IndexError:
            return not self._is_sent
        return True

    def _leave(self, error: BaseException | None) -> None:
        try:
            self._open.pop()
        except IndexError:
            return
        self._is_sent = True
        try:
            if self.chunks:
                self._read(self.chunks)
                error = None if _is_finished(self.chunks, self.request) else error
            elif self._is_opened:
                self._observation.opened()
            elif self._answer is not None:
                # Its task was cancelled, or the process ended, before this was told.
                self._observation.answer(self._answer)
                error = None
            else:
                error = CancelledError()
        except Exception as failure:
            complain("litellm", failure)
        self._observation.end(error)

    def _read(self, chunks: Chunks) -> None:
        self._clock.at, ended = chunks.first_at, self._clock()
        try:
            self._observation.opened()
            for chunk in chunks:
                self._observation.chunk(chunk)
        finally:
            self._clock.at = ended

    def __del__(self) -> None:
        self._leave(GeneratorExit())


def open_calls(record: Mapping[str, Any]) -> Iterable[OpenCall]:
    """Return the calls in a record of LiteLLM's: one of each callback."""
    return [value for value in record.values() if isinstance(value, OpenCall)]


def _is_finished(chunks: Chunks, request: Mapping[str, Any]) -> bool:
    """Whether the model has said all of a chat: who leaves then has the whole answer."""
    if isinstance(chunks[-1], bytes):  # a line of Google's
        return b'"finishReason"' in chunks[-1]
    choices = (choice for chunk in chunks for choice in getattr(chunk, "choices", None) or ())
    finished = sum(1 for choice in choices if getattr(choice, "finish_reason", None))
    return finished >= (request.get("n") or 1)
