"""ollama: `Client` and `AsyncClient`, whose methods all end in `client._request(cls, method, path, json=..., stream=...)`
(ollama 0.6 `_client.py`). Its streams make their request when the first chunk is asked for.
"""

from typing import Any

from tokentide.producers.instrumentation.methods import Methods, deliver_answer, deliver_lazy, observed
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
        api_operation = next(
            (_OPERATIONS[value] for value in args if isinstance(value, str) and value in _OPERATIONS), None
        )
        if api_operation is None:
            return None
        request = kwargs.get("json")
        return observe(
            "ollama",
            api_operation,
            request if isinstance(request, dict) else {},
            stream=bool(kwargs.get("stream")),
        )

    methods = Methods()
    methods.replace(client, {"_request": lambda method: observed(method, begin, _deliver)})
    return methods.undo


def _deliver(observation: Observation, result: Any) -> Any:
    is_stream = hasattr(result, "__next__") or hasattr(result, "__anext__")
    return (deliver_lazy if is_stream else deliver_answer)(observation, result)
