"""Methods of one client, replaced by ones that observe their calls."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tokentide.producers.instrumentation.deliveries import Deliver
from tokentide.producers.observation import Observation
from tokentide.producers.observation_tally import complain

__all__ = ["Begin", "Methods", "observed"]

Begin = Callable[..., Observation | None]
"""Gets the arguments of a call; returns None when it is none of a model, and raises only what a guard raises."""

_ABSENT = object()
_OBSERVED = "_tokentide_observed"


class Methods:
    """Replaces methods on objects, never on their classes, until `undo`."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, wrapped: Mapping[str, Callable[[Any], Any]]) -> None:
        """Put, for each name, what its function makes of the method in the method's place.

        A method that is observed already stays as it is: a part of an instrumented client was handed in by itself.
        Raises TypeError, and gives back all methods, when one is missing.
        """
        missing = [name for name in wrapped if not callable(getattr(owner, name, None))]
        if missing:
            self.undo()
            raise TypeError(f"its {type(owner).__name__} has no {', '.join(missing)}")
        for name, wrap in wrapped.items():
            method = getattr(owner, name)
            if not hasattr(method, _OBSERVED):
                self._before.append((owner, name, vars(owner).get(name, _ABSENT)))
                observing = wrap(method)
                setattr(observing, _OBSERVED, True)
                setattr(owner, name, observing)

    def undo(self) -> None:
        """Give back all methods."""
        while self._before:
            owner, name, before = self._before.pop()
            if before is _ABSENT:
                vars(owner).pop(name, None)
            else:
                setattr(owner, name, before)


def observed(begin: Begin, deliver: Deliver) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what makes of a method one that observes its calls."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
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

        return acall if inspect.iscoroutinefunction(method) else call

    return wrap


def _delivered(deliver: Deliver, observation: Observation, result: Any) -> Any:
    try:
        return deliver(observation, result)
    except Exception as error:  # the call was made: the service gets its answer
        complain("answer", error)
        observation.end()
        return result
