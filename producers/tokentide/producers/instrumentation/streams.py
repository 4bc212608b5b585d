"""Streams of chunks, read by the service and observed on the way."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from tokentide.producers.instrumentation.watched import watch_close
from tokentide.producers.left_open import ends_with_the_process
from tokentide.producers.observation import Observation
from tokentide.producers.observation_tally import complain

__all__ = ["AsyncTee", "SyncTee", "is_last", "observe_stream"]

# Events that carry the last usage: whoever stops reading after one has the whole answer.
_LAST = frozenset(
    {
        "image_edit.completed",
        "image_generation.completed",
        "message_delta",
        "message_stop",
        "response.completed",
        "response.failed",
        "response.incomplete",
        "speech.audio.done",
        "transcript.text.done",
    }
)


def is_last(chunk: Any) -> bool:
    """Return whether the event carries the last usage of its stream."""
    return _get(chunk, "type") in _LAST


class _Tee:
    """What both kinds of stream share: which chunks the service sees, and how the observation ends.

    The chunk that finishes the last of the `choices` of a chat is held back until the next one came, which is the one
    with the usage: so a service that stops reading at `finish_reason` has exact counts too. `hides`: the usage chunk
    was asked for by us, so the service does not see it.
    """

    def __init__(self, inner: Any, observation: Observation, choices: int, hides: bool) -> None:
        self._inner = inner
        self._observation = observation
        self._unfinished = choices
        self._hides = hides
        self._held: list[Any] = []
        self._error: Exception | None = None
        self._complete = False
        self.pulling = False
        observation.opened()
        ends_with_the_process(self.finish)

    def finish(self, error: BaseException | None) -> None:
        """End the observation, once; an answer that was read to its last usage is a success."""
        self._observation.end(None if self._complete and isinstance(error, GeneratorExit) else error)

    def _shown(self, chunk: Any) -> bool:
        """Observe the chunk; return whether the service sees it."""
        self._observation.chunk(chunk)
        try:
            self._complete = self._complete or is_last(chunk)
            choices = _get(chunk, "choices")
            if isinstance(choices, list):
                if choices:
                    self._unfinished -= sum(1 for it in choices if _get(it, "finish_reason") is not None)
                elif self._hides and _get(chunk, "usage") is not None:
                    return False
        except Exception as error:  # a chunk unlike any other: the service sees it
            complain("stream", error)
        return True

    def _holds(self, chunk: Any) -> bool:
        """Return whether the chunk waits for the one behind it."""
        return self._unfinished <= 0 and not self._complete and bool(_get(chunk, "choices"))

    def __del__(self) -> None:
        self.finish(GeneratorExit())


class SyncTee(_Tee):
    """The iterator of a stream."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._held:
            return self._held.pop()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        chunk = self._pull()
        if self._holds(chunk):
            self._complete = True
            try:
                self._held.append(self._pull())
            except StopIteration:
                pass
            except Exception as error:
                self._error = error
        return chunk

    def _pull(self) -> Any:
        while True:
            self.pulling = True
            try:
                chunk = next(self._inner)
            except StopIteration:
                self.finish(None)
                raise
            except BaseException as error:
                self.finish(error)
                raise
            finally:
                self.pulling = False
            if self._shown(chunk):
                return chunk

    def close(self) -> None:
        """Stop reading, as a generator does."""
        self.finish(GeneratorExit())
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


class AsyncTee(_Tee):
    """The iterator of an asynchronous stream."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._held:
            return self._held.pop()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        chunk = await self._pull()
        if self._holds(chunk):
            self._complete = True
            try:
                self._held.append(await self._pull())
            except StopAsyncIteration:
                pass
            except Exception as error:
                self._error = error
        return chunk

    async def _pull(self) -> Any:
        while True:
            self.pulling = True
            try:
                chunk = await anext(self._inner)
            except StopAsyncIteration:
                self.finish(None)
                raise
            except BaseException as error:
                self.finish(error)
                raise
            finally:
                self.pulling = False
            if self._shown(chunk):
                return chunk

    async def aclose(self) -> None:
        """Stop reading, as an asynchronous generator does."""
        self.finish(GeneratorExit())
        close = getattr(self._inner, "aclose", None)
        if close is not None:
            await close()


def observe_stream(stream: Any, observation: Observation, *, choices: int = 1, hides: bool = False) -> Any:
    """Have the chunks of an SDK's stream observed, as its user reads them; return the same stream.

    Raises AttributeError when it is no stream of the OpenAI generator: it is unchanged then.
    """
    inner, response = stream._iterator, stream.response
    tee = (AsyncTee if hasattr(inner, "__anext__") else SyncTee)(inner, observation, choices, hides)
    stream._iterator = tee
    try:
        watch_close(response, tee)
    except (
        TypeError
    ) as error:  # a response of another make: a stream that is left ends with its last reference
        complain("stream", error)
    return stream


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)
