"""mistralai: chat, fim, agents, embeddings, ocr, and transcriptions of audio (mistralai 3.7 `client/chat.py` and others).

Every method has a twin whose name ends in `_async`; `chat.parse` and `chat.parse_stream` call these.
"""

from collections.abc import Callable
from typing import Any

from tokentide.producers.instrumentation.methods import (
    Deliver,
    Methods,
    deliver_answer,
    deliver_stream,
    observed,
)
from tokentide.producers.instrumentation.observe import Observe, Undo
from tokentide.producers.instrumentation.watched import watch_close
from tokentide.producers.observation import Observation

__all__ = ["wrap"]

# Where the methods are -> the operation, the methods that return an answer, those that return a stream.
_METHODS = {
    "chat": ("chat", ("complete",), ("stream",)),
    "fim": ("chat", ("complete",), ("stream",)),
    "agents": ("chat", ("complete",), ("stream",)),
    "embeddings": ("embeddings", ("create",), ()),
    "ocr": ("ocr", ("process",), ()),
}


def wrap(client: Any, observe: Observe) -> Undo:
    """Meter the client. Raises TypeError when one of the methods is missing: it is another version's."""
    methods = Methods()
    try:
        for part, (api_operation, answers, streams) in _METHODS.items():
            owner = getattr(client, part, None)
            if owner is None:
                raise TypeError(f"it has no {part}")
            wrapped: dict[str, Callable[[Any], Any]] = {}
            for names, stream, deliver in ((answers, False, deliver_answer), (streams, True, _deliver_stream)):
                begin = _begin(observe, api_operation, stream)
                for name in names:
                    wrapped[name] = wrapped[f"{name}_async"] = _wrapped(begin, deliver)
            methods.replace(owner, wrapped)
    except Exception:
        methods.undo()
        raise
    return methods.undo


def _wrapped(begin: Callable[..., Observation], deliver: Deliver) -> Callable[[Any], Any]:
    return lambda method: observed(method, begin, deliver)


def _begin(observe: Observe, api_operation: str, stream: bool) -> Callable[..., Observation]:
    def begin(**request: Any) -> Observation:
        return observe("mistral", api_operation, request, model=request.get("agent_id"), stream=stream)

    return begin


def _deliver_stream(observation: Observation, stream: Any) -> Any:
    """Observe the events of an `EventStream`; closed early, it says so through its HTTP response."""
    generator = deliver_stream(observation, _Data(stream.generator))
    watch_close(stream.response, generator)
    stream.generator = generator
    return stream
