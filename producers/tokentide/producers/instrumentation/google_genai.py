"""google-genai: `client.models` and `client.aio.models`, and the chats that are built on them.

Replaced is what makes one request each (google-genai 3.6 `models.py`, `Models._generate_content`): a call that runs
functions by itself, or is continued, is several requests, each paid, and each gives an event.
"""

from collections.abc import Callable
from typing import Any

from tokentide.producers.instrumentation.methods import (
    Deliver,
    Methods,
    deliver_answer,
    deliver_lazy,
    deliver_stream,
    observed,
)
from tokentide.producers.instrumentation.observe import Observe, Undo
from tokentide.producers.observation import Observation

__all__ = ["wrap"]

_OPERATIONS = {"_generate_content": "chat", "_embed_content": "embeddings", "_generate_images": "image"}


def wrap(client: Any, observe: Observe) -> Undo:
    """Meter the client (`genai.Client`, or its `aio`). Raises TypeError for another version's."""
    methods = Methods()
    try:
        models = [owner.models for owner in (client, getattr(client, "aio", None)) if owner is not None]
        for each in models:
            is_async = type(each).__name__.startswith("Async")
            methods.replace(each, _wrapped(observe, deliver_stream if is_async else deliver_lazy))
    except Exception:
        methods.undo()
        raise
    return methods.undo


def _wrapped(observe: Observe, deliver_chunks: Deliver) -> dict[str, Callable[[Any], Any]]:
    def answers(api_operation: str) -> Callable[[Any], Any]:
        return lambda method: observed(method, _begin(observe, api_operation), _deliver)

    wrapped = {name: answers(api_operation) for name, api_operation in _OPERATIONS.items()}
    wrapped["_generate_content_stream"] = lambda method: observed(
        method, _begin(observe, "chat", stream=True), deliver_chunks
    )
    return wrapped


def _begin(observe: Observe, api_operation: str, stream: bool = False) -> Callable[..., Observation]:
    def begin(**request: Any) -> Observation:
        model = request.get("model")
        name = model.rpartition("/")[2] if isinstance(model, str) else None
        return observe("google", api_operation, request, model=name, stream=stream)

    return begin


def _deliver(observation: Observation, answer: Any) -> Any:
    """Observe an answer; with `should_return_http_response` it is the bare JSON of the HTTP response."""
    body = getattr(getattr(answer, "sdk_http_response", None), "body", None)
    return deliver_answer(observation, answer) if not body else _deliver_body(observation, answer, body)


def _deliver_body(observation: Observation, answer: Any, body: Any) -> Any:
    deliver_answer(observation, body)
    return answer
