"""cohere: `ClientV2`, `AsyncClientV2`, and the older `Client`, `AsyncClient` with the `v2` in them.

Their methods all call the same method of a raw client, which `with_raw_response` gives as well: that is replaced
(cohere 7.3 `v2/client.py`, `V2Client.chat`).
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tokentide.producers.instrumentation.deliveries import deliver_answer, lazy_stream
from tokentide.producers.instrumentation.methods import Methods, observed
from tokentide.producers.instrumentation.observe import Observe, Undo
from tokentide.producers.observation import Observation
from tokentide.producers.observation_tally import complain

__all__ = ["wrap"]

_OPERATIONS = {"chat": "chat", "embed": "embeddings", "rerank": "rerank"}
# Cohere's models, sold by others.
_SELLERS = {"Bedrock": "aws", "Sagemaker": "aws", "Aws": "aws", "Oci": "oci"}
_LAST = ("message-end", "stream-end")


def wrap(client: Any, observe: Observe) -> Undo:
    """Meter the client: chat, chat_stream, embed, rerank. Raises TypeError for another version's."""
    name = type(client).__name__
    provider = next((seller for prefix, seller in _SELLERS.items() if prefix in name), "cohere")
    methods = Methods()
    for owner in (client, getattr(client, "v2", None)):
        if owner is not None:
            raw = getattr(owner, "_raw_client", None)
            is_async = "Async" in type(owner).__name__
            wrapped: dict[str, Callable[[Any], Any]] = {
                method: observed(_begin(observe, provider, api_operation), _deliver)
                for method, api_operation in _OPERATIONS.items()
            }
            begin = _begin(observe, provider, "chat", stream=True)
            wrapped["chat_stream"] = (_astreamed if is_async else _streamed)(begin)
            methods.replace(raw, wrapped)
    return methods.undo


def _begin(
    observe: Observe, provider: str, api_operation: str, stream: bool = False
) -> Callable[..., Observation]:
    def begin(*_: Any, **kwargs: Any) -> Observation:
        request = {
            name: value for name, value in kwargs.items() if value is not ...
        }  # its sign for "not given"
        return observe(provider, api_operation, request, stream=stream)

    return begin


def _deliver(observation: Observation, response: Any) -> Any:
    deliver_answer(observation, response.data)
    return response


def _is_last(event: Any) -> bool:
    return getattr(event, "type", None) in _LAST or getattr(event, "event_type", None) in _LAST


_deliver_stream = lazy_stream(_is_last, is_made=True)


def _streamed(begin: Callable[..., Observation]) -> Callable[[Any], Any]:
    def wrap_method(method: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def chat_stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            observation = begin(*args, **kwargs)
            try:
                with method(*args, **kwargs) as response:
                    _observe_events(observation, response)
                    yield response
            except BaseException as error:
                observation.end(error)
                raise
            finally:
                observation.end(GeneratorExit())  # left without having read to the end

        return chat_stream

    return wrap_method


def _astreamed(begin: Callable[..., Observation]) -> Callable[[Any], Any]:
    def wrap_method(method: Callable[..., Any]) -> Callable[..., Any]:
        @asynccontextmanager
        async def chat_stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            observation = begin(*args, **kwargs)
            try:
                async with method(*args, **kwargs) as response:
                    _observe_events(observation, response)
                    yield response
            except BaseException as error:
                observation.end(error)
                raise
            finally:
                observation.end(GeneratorExit())

        return chat_stream

    return wrap_method


def _observe_events(observation: Observation, response: Any) -> None:
    observation.opened()
    try:
        response._data = _deliver_stream(observation, response.data)
    except Exception as error:  # a response of another form: the service reads it, unobserved
        complain("stream", error)
