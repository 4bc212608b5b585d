"""How the answer of a call reaches the service, observed on the way: whole, or as a stream of events."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tokentide.producers.instrumentation.streams import AsyncTee, SyncTee
from tokentide.producers.left_open import ends_with_the_process
from tokentide.producers.observation import Observation
from tokentide.producers.observation_tally import complain

__all__ = ["Deliver", "IsLast", "deliver_answer", "lazy_stream", "open_stream"]

Deliver = Callable[[Observation, Any], Any]
"""Observes what a call returned; returns what the service gets."""

IsLast = Callable[[Any], bool]
"""Whether an event carries the last usage of its stream: whoever stops reading after it has the whole answer."""


def deliver_answer(observation: Observation, answer: Any) -> Any:
    """Observe a whole answer."""
    observation.answer(answer)
    observation.end()
    return answer


def open_stream(
    observation: Observation, events: Any, is_last: IsLast, content: Callable[[Any], Any] | None = None
) -> Any:
    """Return an iterator of the events of a call that has been made: unread, it is a call all the same.

    `content` is what of an event is observed: the event itself unless given.
    """
    kind = _AsyncEvents if hasattr(events, "__anext__") else _Events
    return kind(events, observation, is_last, content)


def lazy_stream(is_last: IsLast, *, is_made: bool = False) -> Deliver:
    """Return what observes a generator that makes its call when the first event is asked for.

    Unread it calls nobody, and gives no event. `is_made`: the call was made before, and whoever made it ends it.
    """

    def deliver(observation: Observation, events: Any) -> Any:
        read = _aread if hasattr(events, "__anext__") else _read
        return read(events, observation, is_last, is_made)

    return deliver


class _Observing:
    """What both kinds of iterators do with an event."""

    _observation: Observation
    _complete: bool

    def __init__(
        self, inner: Any, observation: Observation, is_last: IsLast, content: Callable[[Any], Any] | None
    ) -> None:
        self._is_last = is_last
        self._content = content
        super().__init__(inner, observation, 1, False)  # type: ignore[call-arg]  # of the tee beside it

    def _shown(self, event: Any) -> bool:
        try:
            observed = event if self._content is None else self._content(event)
            self._observation.chunk(observed)
            self._complete = self._complete or self._is_last(observed)
        except Exception as error:  # an event unlike any other: the service sees it
            complain("stream", error)
        return True


class _Events(_Observing, SyncTee):
    """Events that are there."""


class _AsyncEvents(_Observing, AsyncTee):
    """Events that are waited for."""


class _Reading:
    """What is observed of a generator."""

    def __init__(self, observation: Observation, is_last: IsLast) -> None:
        self._observation = observation
        self._is_last = is_last
        self._complete = False
        ends_with_the_process(self.finish)

    def take(self, event: Any) -> None:
        """Observe an event."""
        self._observation.chunk(event)
        try:
            self._complete = self._complete or self._is_last(event)
        except Exception as error:
            complain("stream", error)

    def finish(self, error: BaseException | None) -> None:
        """End the observation."""
        self._observation.end(None if self._complete and isinstance(error, GeneratorExit) else error)


def _read(events: Iterator[Any], observation: Observation, is_last: IsLast, is_made: bool) -> Iterator[Any]:
    if not is_made:
        observation.begins()
    reading = _Reading(observation, is_last)
    error: BaseException | None = None
    try:
        for event in events:
            reading.take(event)
            yield event
    except BaseException as raised:
        error = raised
        raise
    finally:
        reading.finish(error)
        close = getattr(events, "close", None)
        if close is not None:
            close()


async def _aread(
    events: AsyncIterator[Any], observation: Observation, is_last: IsLast, is_made: bool
) -> AsyncIterator[Any]:
    if not is_made:
        observation.begins()
    reading = _Reading(observation, is_last)
    error: BaseException | None = None
    try:
        async for event in events:
            reading.take(event)
            yield event
    except BaseException as raised:
        error = raised
        raise
    finally:
        reading.finish(error)
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()
