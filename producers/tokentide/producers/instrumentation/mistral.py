"""mistralai: chat, fim, agents, embeddings and ocr (mistralai 3.7 `client/chat.py` and its siblings).

Every method has a twin whose name ends in `_async`; `chat.parse` and `chat.parse_stream` call these methods.
"""

from collections.abc import Callable
from typing import Any

from tokentide.producers.instrumentation.deliveries import deliver_answer, open_stream
from tokentide.producers.instrumentation.methods import Methods, observed
from tokentide.producers.instrumentation.observe import Observe, Undo
from tokentide.producers.instrumentation.watched import watch_close
from tokentide.producers.observation import Observation

__all__ = ["wrap"]

# The part of the client -> the operation, the methods that return an answer, those that return a stream.
_METHODS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "chat": ("chat", ("complete",), ("stream",)),
    "fim": ("chat", ("complete",), ("stream",)),
    "agents": ("chat", ("complete",), ("stream",)),
    "embeddings": ("embeddings", ("create",), ()),
    "ocr": ("ocr", ("process",), ()),
}


def wrap(client: Any, observe: Observe) -> Undo:
    """Meter the client. Raises TypeError when one of the methods is missing: it is another version's."""
    methods = Methods()
    for part, (api_operation, answers, streams) in _METHODS.items():
        whole = observed(_begin(observe, api_operation, False), deliver_answer)
        streamed = observed(_begin(observe, api_operation, True), _deliver_stream)
        methods.replace(
            getattr(client, part, None),
            {
                **{name + twin: whole for name in answers for twin in ("", "_async")},
                **{name + twin: streamed for name in streams for twin in ("", "_async")},
            },
        )
    return methods.undo


def _begin(observe: Observe, api_operation: str, stream: bool) -> Callable[..., Observation]:
    def begin(*_: Any, **request: Any) -> Observation:
        # An answer of an agent names no model: the agent stands for it.
        return observe("mistral", api_operation, request, model=request.get("agent_id"), stream=stream)

    return begin


def _deliver_stream(observation: Observation, stream: Any) -> Any:
    """Observe an `EventStream`; one that is closed early says so through its HTTP response."""
    events = open_stream(observation, stream.generator, _is_last, _chunk)
    stream.generator = events
    watch_close(stream.response, events)
    return stream


def _chunk(event: Any) -> Any:
    return event.data


def _is_last(chunk: Any) -> bool:
    return any(choice.finish_reason for choice in chunk.choices or ())
