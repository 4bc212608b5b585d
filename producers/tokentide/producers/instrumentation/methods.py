"""Methods of one client, replaced by ones that observe their calls."""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from tokentide.producers.instrumentation.streams import AsyncTee, SyncTee, is_last
from tokentide.producers.observation import Observation, complain

__all__ = ["Deliver", "Methods", "deliver_answer", "deliver_lazy", "deliver_stream", "observed"]

Deliver = Callable[[Observation, Any], Any]
"""Observes what a call returned; returns what the service gets."""

_ABSENT = object()


class Methods:
    """Replaces methods on objects, never on their classes, until `undo`."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, wrapped: Mapping[str, Callable[[Any], Any]]) -> None:
        """Put, for each name, what its function makes of the method in the method's place.

        Raises TypeError, and leaves the owner as it is, when a method is missing.
        """
        missing = [name for name in wrapped if not callable(getattr(owner, name, None))]
        if missing:
            raise TypeError(f"its {type(owner).__name__} has no {', '.join(missing)}")
        for name, wrap in wrapped.items():
            self._before.append((owner, name, vars(owner).get(name, _ABSENT)))
            setattr(owner, name, wrap(getattr(owner, name)))

    def undo(self) -> None:
        """Give back all methods."""
        while self._before:
            owner, name, before = self._before.pop()
            if before is _ABSENT:
                vars(owner).pop(name, None)
            else:
                setattr(owner, name, before)


def observed(
    method: Callable[..., Any], begin: Callable[..., Observation | None], deliver: Deliver
) -> Callable[..., Any]:
    """Return a method that observes its calls.

    `begin` gets the arguments, returns None when the call is none of a model, and raises only what a guard raises.
    """
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def acall(*args: Any, **kwargs: Any) -> Any:
            observation = begin(*args, **kwargs)
            if observation is None:
                return await method(*args, **kwargs)
            try:
                result = await method(*args, **kwargs)
            except BaseException as error:
                observation.end(error)
                raise
            return _delivered(deliver, observation, result)

        return acall

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        observation = begin(*args, **kwargs)
        if observation is None:
            return method(*args, **kwargs)
        try:
            result = method(*args, **kwargs)
        except BaseException as error:
            observation.end(error)
            raise
        return _delivered(deliver, observation, result)

    return call


def _delivered(deliver: Deliver, observation: Observation, result: Any) -> Any:
    try:
        return deliver(observation, result)
    except Exception as error:  # the call was made: the service gets its answer
        complain("answer", error)
        observation.end()
        return result


def deliver_answer(observation: Observation, answer: Any) -> Any:
    """Observe a whole answer."""
    observation.answer(answer)
    observation.end()
    return answer


def deliver_stream(observation: Observation, chunks: Any) -> Any:
    """Observe the chunks of a call that has been made: one whose chunks nobody reads is a call, too."""
    return (AsyncTee if hasattr(chunks, "__anext__") else SyncTee)(chunks, observation, 1, False)


def deliver_lazy(observation: Observation, chunks: Any) -> Any:
    """Observe the chunks of a call that is made when the first is asked for: a generator that nobody reads calls
    nothing, and gives no event.
    """
    return (_achunks if hasattr(chunks, "__anext__") else _chunks)(chunks, observation)


def _chunks(chunks: Iterator[Any], observation: Observation) -> Iterator[Any]:
    error: BaseException | None = None
    complete = False
    try:
        for chunk in chunks:
            observation.chunk(chunk)
            complete = complete or is_last(chunk)
            yield chunk
    except BaseException as failure:
        error = failure
        raise
    finally:
        observation.end(None if complete and isinstance(error, GeneratorExit) else error)
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


async def _achunks(chunks: AsyncIterator[Any], observation: Observation) -> AsyncIterator[Any]:
    error: BaseException | None = None
    complete = False
    try:
        async for chunk in chunks:
            observation.chunk(chunk)
            complete = complete or is_last(chunk)
            yield chunk
    except BaseException as failure:
        error = failure
        raise
    finally:
        observation.end(None if complete and isinstance(error, GeneratorExit) else error)
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
