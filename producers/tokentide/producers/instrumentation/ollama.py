"""ollama: `Client` and `AsyncClient`, whose methods end in `client._request(cls, method, path, json=..., stream=...)`
(ollama 0.6 `_client.py`). Its streams make their request when the first chunk is asked for.
"""

from typing import Any

from tokentide.producers.instrumentation.deliveries import deliver_answer, lazy_stream
from tokentide.producers.instrumentation.methods import Methods, observed
from tokentide.producers.instrumentation.observe import Observe, Undo
from tokentide.producers.observation import Observation

__all__ = ["wrap"]

_OPERATIONS = {
    "/api/chat": "chat",
    "/api/generate": "chat",
    "/api/embed": "embeddings",
    "/api/embeddings": "embeddings",
}


def wrap(client: Any, observe: Observe) -> Undo:
    """Meter the client: chat, generate, embed, embeddings. Raises TypeError for another version's."""

    def begin(*args: Any, **kwargs: Any) -> Observation | None:
        paths = [value for value in args if isinstance(value, str) and value in _OPERATIONS]
        if not paths:
            return None
        request = kwargs.get("json")
        return observe(
            "ollama",
            _OPERATIONS[paths[0]],
            request if isinstance(request, dict) else {},
            stream=bool(kwargs.get("stream")),
        )

    methods = Methods()
    methods.replace(client, {"_request": observed(begin, _deliver)})
    return methods.undo


def _deliver(observation: Observation, result: Any) -> Any:
    is_stream = hasattr(result, "__next__") or hasattr(result, "__anext__")
    return (_deliver_stream if is_stream else deliver_answer)(observation, result)


def _is_last(chunk: Any) -> bool:
    return bool(chunk.done)


_deliver_stream = lazy_stream(_is_last)
