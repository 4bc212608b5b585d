"""How a wrapped client begins to observe a call."""

from collections.abc import Callable, Mapping
from typing import Any

from tokentide.producers.default import default_producer
from tokentide.producers.extraction.estimate import input_tokens_by_length
from tokentide.producers.observation import Guards, Observation, Tracker

__all__ = ["MARK", "DefaultTracker", "Observe", "Undo", "estimated_tokens"]

Undo = Callable[[], None]
"""Gives a client back as it was before it was wrapped."""

MARK = "_tokentide_undo"
"""The attribute of an instrumented client that holds its `Undo`."""

_MOST_OUTPUT = ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample")


class DefaultTracker:
    """The default producer of the process, made by the first event."""

    def track(self, **fields: Any) -> None:
        default_producer().track(**fields)


class Observe:
    """Makes the observations of one client: with its producer, its guard and its defaults."""

    def __init__(
        self,
        producer: Tracker | None,
        guard: Guards | None,
        defaults: Mapping[str, Any],
        provider: str | None,
    ) -> None:
        self._tracker = producer if producer is not None else DefaultTracker()
        self._guard = guard
        self._defaults = defaults
        self._provider = provider

    def __call__(
        self,
        provider: str,
        api_operation: str,
        request: Mapping[str, Any],
        *,
        model: str | None = None,
        stream: bool = False,
    ) -> Observation:
        """Begin to observe a call that is about to be made; raises only what the guard raises.

        `provider` is what the client looks like; one that the user named wins. Whoever gets the observation must
        end it, in every case, once.
        """
        observation = Observation(
            self._tracker,
            self._provider or provider,
            api_operation,
            request,
            defaults=self._defaults,
            model=model,
            stream=stream,
        )
        if self._guard is not None:
            observation.before_call(self._guard, estimated_tokens=estimated_tokens(request))
        return observation


def estimated_tokens(request: Mapping[str, Any]) -> int:
    """Return about how many tokens a call may use at most: its text at 4 characters a token, and its limit."""
    limits = (request.get(name) for name in _MOST_OUTPUT)
    output = max((limit for limit in limits if isinstance(limit, int)), default=0)
    return input_tokens_by_length(request) + max(output, 0)
