"""google-genai: `client.models` and `client.aio.models`, and the chats that are built on them.

Replaced is what makes one request each (google-genai 3.6 `models.py`, `Models._generate_content`): a call that runs
functions by itself, or is continued, is several requests, each paid, and each gives an event.
"""

from collections.abc import Callable
from typing import Any

from tokentide.producers.instrumentation.deliveries import (
    Deliver,
    deliver_answer,
    lazy_stream,
    open_stream,
)
from tokentide.producers.instrumentation.methods import Methods, observed
from tokentide.producers.instrumentation.observe import Observe, Undo
from tokentide.producers.observation import Observation

__all__ = ["wrap"]

_OPERATIONS = {"_generate_content": "chat", "_embed_content": "embeddings", "_generate_images": "image"}


def wrap(client: Any, observe: Observe) -> Undo:
    """Meter the client (`genai.Client`, or its `aio`). Raises TypeError for another version's."""
    methods = Methods()
    for owner in (client, getattr(client, "aio", None)):
        if owner is not None:
            models = getattr(owner, "models", None)
            is_async = type(models).__name__.startswith("Async")
            methods.replace(models, _wrapped(observe, _deliver_open if is_async else lazy_stream(_is_last)))
    return methods.undo


def _wrapped(observe: Observe, deliver_stream: Deliver) -> dict[str, Callable[[Any], Any]]:
    wrapped = {
        name: observed(_begin(observe, api_operation), _deliver)
        for name, api_operation in _OPERATIONS.items()
    }
    wrapped["_generate_content_stream"] = observed(_begin(observe, "chat", stream=True), deliver_stream)
    return wrapped


def _begin(observe: Observe, api_operation: str, stream: bool = False) -> Callable[..., Observation]:
    def begin(*_: Any, **request: Any) -> Observation:
        model = request.get("model")
        name = model.rpartition("/")[2] if isinstance(model, str) else None
        return observe("google", api_operation, request, model=name, stream=stream)

    return begin


def _deliver(observation: Observation, answer: Any) -> Any:
    """Observe an answer; with `should_return_http_response` it is nothing but the body of the HTTP response."""
    body = getattr(getattr(answer, "sdk_http_response", None), "body", None)
    deliver_answer(observation, body or answer)
    return answer


def _deliver_open(observation: Observation, chunks: Any) -> Any:
    return open_stream(observation, chunks, _is_last)


def _is_last(chunk: Any) -> bool:
    """Whether the model has finished; counts are cumulative, so this chunk has them all."""
    candidates = chunk.candidates or []
    return bool(candidates) and all(candidate.finish_reason for candidate in candidates)
