"""Generator functions whose chunks are watched on their way; to those who use them they are the same."""

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from tokentide.producers.left_open import ends_with_the_process
from tokentide.producers.observation import Observation

__all__ = ["watched", "watched_async"]

Begin = Callable[[], Observation]


def watched(
    function: Callable[..., Generator[Any, Any, Any]], begin: Begin
) -> Callable[..., Generator[Any, Any, Any]]:
    """Return the function; a call begins with the first chunk that is asked for.

    It ends when the generator ends, fails, or is closed early.
    """

    def metered(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = begin()
        ends_with_the_process(call.end)
        error: BaseException | None = None
        try:
            generator = function(*args, **kwargs)
            chunk = next(generator)
            while True:
                call.chunk(chunk)
                try:
                    sent = yield chunk
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as thrown:
                    chunk = generator.throw(thrown)
                else:
                    chunk = generator.send(sent)
        except StopIteration as stop:
            return stop.value
        except BaseException as raised:
            error = raised
            raise
        finally:
            call.end(error)

    return metered


def watched_async(
    function: Callable[..., AsyncGenerator[Any, Any]], begin: Begin
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return the function, watched as `watched` does."""

    async def metered(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = begin()
        ends_with_the_process(call.end)
        error: BaseException | None = None
        try:
            generator = function(*args, **kwargs)
            chunk = await anext(generator)
            while True:
                call.chunk(chunk)
                try:
                    sent = yield chunk
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as thrown:
                    chunk = await generator.athrow(thrown)
                else:
                    chunk = await generator.asend(sent)
        except StopAsyncIteration:
            return
        except BaseException as raised:
            error = raised
            raise
        finally:
            call.end(error)

    return metered
