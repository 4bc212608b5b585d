"""Meters what no client of `instrument()` does: any function, any block, any numbers."""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from tokentide.producers.attribution import count_unattributed, current_attribution
from tokentide.producers.default import default_producer
from tokentide.producers.default_guard import guard_of
from tokentide.producers.metered_call import CallSpec, MeteredCall, ReadUsage
from tokentide.producers.metered_streams import watched, watched_async
from tokentide.producers.observation import Guards, Tracker
from tokentide.producers.observation_tally import complain
from tokentide.producers.usage import Usage, event_id_of, joined_metadata
from tokentide.schemas.provider import canonical_provider

__all__ = ["Meter", "MeteredCall", "meter", "record"]

P = ParamSpec("P")
T = TypeVar("T")

_MOST_BLOCKS = 16
_blocks: ContextVar[tuple[MeteredCall, ...]] = ContextVar("tokentide_blocks", default=())
"""The calls of the `with meter(...)` blocks that this context is in, the innermost last."""


class Meter:
    """Decorates functions, and is a context manager, for any number of threads and tasks at a time; see `meter`."""

    def __init__(self, spec: CallSpec, producer: Tracker | None, guard: Guards | None) -> None:
        self._spec = spec
        self._producer = _Default() if producer is None else producer
        self._guard = guard
        self._open: dict[int, MeteredCall] = {}

    def begin(self, *, stream: bool = False) -> MeteredCall:
        """Begin a call, whose `end` sends the event. Raises what the guard raises, and then there is no event."""
        call = MeteredCall(self._producer, self._spec, stream=stream)
        call.before_call(self._guard)
        return call

    def __enter__(self) -> MeteredCall:
        call = self.begin()
        self._open[id(call)] = call
        _blocks.set((*_blocks.get()[1 - _MOST_BLOCKS :], call))
        return call

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        call = next((each for each in reversed(_blocks.get()) if id(each) in self._open), None)
        if call is None:  # the block ends in another context than it began in: then it is the latest
            call = next(reversed(list(self._open.values())), None)
        if call is not None:
            self._open.pop(id(call), None)
            _blocks.set(tuple(each for each in _blocks.get() if each is not call))
            call.end(error)

    async def __aenter__(self) -> MeteredCall:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function, metered; of what kind it is stays the same."""
        kinds: list[tuple[Callable[[Any], bool], Callable[[Any], Any]]] = [
            (inspect.iscoroutinefunction, self._coroutine),
            (inspect.isasyncgenfunction, self._async_generator),
            (inspect.isgeneratorfunction, self._generator),
        ]
        wrap = next((wrap for is_kind, wrap in kinds if is_kind(function)), self._plain)
        return cast(Callable[P, T], functools.wraps(function)(wrap(function)))

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def metered(*args: Any, **kwargs: Any) -> Any:
            call = self.begin()
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                call.end(error)
                raise
            if inspect.iscoroutine(value):
                return _awaited(call, value)
            _finish(call, value)
            return value

        return metered

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def metered(*args: Any, **kwargs: Any) -> Any:
            call = self.begin()
            try:
                coroutine = function(*args, **kwargs)
            except BaseException as error:
                call.end(error)
                raise
            return await _awaited(call, coroutine)

        return metered

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return watched(function, functools.partial(self.begin, stream=True))

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return watched_async(function, functools.partial(self.begin, stream=True))


@overload
def meter(function: Callable[P, T], /) -> Callable[P, T]: ...


@overload
def meter(
    *,
    provider: str | None = None,
    model: str | None = None,
    api_operation: str | None = None,
    usage: ReadUsage | None = None,
    producer: Tracker | None = None,
    guard: Guards | bool | None = None,
    **fields: Any,
) -> Meter: ...


def meter(
    function: Callable[..., Any] | None = None,
    /,
    *,
    provider: str | None = None,
    model: str | None = None,
    api_operation: str | None = None,
    usage: ReadUsage | None = None,
    producer: Tracker | None = None,
    guard: Guards | bool | None = None,
    **fields: Any,
) -> Any:
    """Meter a function (`@meter(...)`) or a block (`with meter(...) as call`, also async): one event a call.

    Latency, errors and cancellation are measured. Usage is read from what the function returns, or from each chunk
    that a generator yields, by `extract`; or by `usage`, which gets the same and returns a `Usage`, a mapping of its
    fields, or None (of a stream the last that is not None counts). `provider` and `model` are needed when the answer
    does not tell them. `fields` are fields of UsageEvent for every call; what `attribution` says wins over them.
    Without `producer` it is the default one. Nothing raises but a `guard` that refuses; True stands for the one guard
    of the process. A client that is instrumented needs no meter around it: that would be a second event.
    """
    made = Meter(CallSpec(provider, model, api_operation, usage, fields), producer, guard_of(guard))
    return made if function is None else made(function)


def record(usage: Usage | None = None, /, *, producer: Tracker | None = None, **fields: Any) -> None:
    """Send one event of what is known already: `record(extract(answer), operation="summary")`, or plain fields.

    `fields` are those of UsageEvent; they win over the usage, and that over the attribution. An event with a
    `request_id` gets the event_id that every observer of that call gives it. Never raises and never blocks.
    """
    try:
        layers = [current_attribution(), usage.fields() if usage is not None else {}, fields]
        event = {name: value for layer in layers for name, value in layer.items()}
        tags = {key: value for layer in layers for key, value in (layer.get("tags") or {}).items()}
        metadata = joined_metadata(fields.get("metadata") or {}, layers[1].get("metadata", {}))
        event |= {name: value for name, value in (("tags", tags), ("metadata", metadata)) if value}
        if event.get("request_id") and event.get("provider") and not event.get("event_id"):
            event["event_id"] = event_id_of(canonical_provider(event["provider"]), event["request_id"])
        count_unattributed(event)
        (_Default() if producer is None else producer).track(**event)
    except Exception as error:  # whatever a service passes: its own work goes on
        complain("record", error)


class _Default:
    """The default producer, asked for when the call has ended: making it may fail, and the call goes on."""

    def track(self, **fields: Any) -> Any:
        """Send the event."""
        return default_producer().track(**fields)


async def _awaited(call: MeteredCall, coroutine: Any) -> Any:
    try:
        value = await coroutine
    except BaseException as error:
        call.end(error)
        raise
    _finish(call, value)
    return value


def _finish(call: MeteredCall, value: Any) -> None:
    if hasattr(type(value), "__next__") or hasattr(type(value), "__anext__"):
        # Reading the stream here would take it from the caller.
        complain(
            "stream",
            f"a metered function returned a {type(value).__name__}: its usage is not read; yield from it",
        )
    elif value is not None:
        call.answer(value)
    call.end()
