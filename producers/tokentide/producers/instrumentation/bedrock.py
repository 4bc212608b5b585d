"""Amazon Bedrock through boto3: the client's own events tell when a call begins and how it ends.

Seen are Converse, ConverseStream, InvokeModel and InvokeModelWithResponseStream (botocore 1.44 `client.py`,
`BaseClient._make_api_call`). A call that never leaves the machine, as its parameters are wrong, gives no event.
"""

import json
from collections.abc import Mapping
from typing import Any

from botocore.eventstream import EventStream  # type: ignore[import-untyped]

from tokentide.producers.instrumentation.bedrock_body import ObservedBody
from tokentide.producers.instrumentation.deliveries import deliver_answer, open_stream
from tokentide.producers.instrumentation.observe import Observe, Undo
from tokentide.producers.observation import Observation
from tokentide.producers.observation_tally import complain

__all__ = ["wrap"]

_SERVICE = "bedrock-runtime"
_ID = "tokentide"
_KEY = "tokentide_observation"
# Where the events of a stream stand in the answer.
_STREAMS = {"ConverseStream": "stream", "InvokeModelWithResponseStream": "body"}
_INVOCATIONS = ("InvokeModel", "InvokeModelWithResponseStream")
_OPERATIONS = frozenset({"Converse", *_STREAMS, *_INVOCATIONS})
# What the id of a model tells of its kind; others chat.
_KINDS = {
    "embed": "embeddings",
    "rerank": "rerank",
    "image": "image",
    "canvas": "image",
    "stability.": "image",
}
_METRICS = "amazon-bedrock-invocationMetrics"


def wrap(client: Any, observe: Observe) -> Undo:
    """Meter a client of the service bedrock-runtime. Raises TypeError for a client of another one."""
    service = client.meta.service_model.service_name
    if service != _SERVICE:
        raise TypeError(f"it calls {service}, and models are called through {_SERVICE}")
    calls = _Calls(client, observe)
    handlers = {
        f"provide-client-params.{_SERVICE}.*": calls.begin,
        f"after-call.{_SERVICE}.*": calls.answered,
        f"after-call-error.{_SERVICE}.*": calls.failed,
    }
    for event, handler in handlers.items():
        client.meta.events.register(event, handler, unique_id=f"{_ID}.{event}")

    def undo() -> None:
        for event, handler in handlers.items():
            client.meta.events.unregister(event, handler, unique_id=f"{_ID}.{event}")

    return undo


class _Calls:
    """The handlers of a client's events; botocore passes what they do not name, too."""

    def __init__(self, client: Any, observe: Observe) -> None:
        self._exceptions = client.exceptions
        self._observe = observe

    def begin(self, *, params: Any, model: Any, context: Any, **_: Any) -> None:
        """Begin to observe a call; raises only what the guard raises."""
        if model.name in _OPERATIONS:
            request = _request(params, model.name)
            model_id = str(request.get("modelId") or "")
            context[_KEY] = self._observe(
                "aws",
                next((kind for part, kind in _KINDS.items() if part in model_id), "chat"),
                request,
                model=model_id or None,
                stream=model.name in _STREAMS,
            )

    def answered(self, *, http_response: Any, parsed: Any, model: Any, context: Any, **_: Any) -> None:
        """Take the answer, or have its stream observed while the service reads it."""
        observation = context.pop(_KEY, None)
        if observation is None:
            return
        try:
            if http_response.status_code >= 300:
                observation.end(self._refused(http_response.status_code, parsed, model.name))
            elif model.name in _STREAMS:
                place = _STREAMS[model.name]
                parsed[place] = _Events(observation, parsed[place])
            elif model.name in _INVOCATIONS:
                parsed["body"] = ObservedBody(parsed["body"], observation, parsed.get("ResponseMetadata"))
            else:
                deliver_answer(observation, parsed)
        except Exception as error:  # the service gets its answer
            complain("answer", error)
            observation.end()

    def failed(self, *, exception: BaseException, context: Any, **_: Any) -> None:
        """End a call that got no answer."""
        observation = context.pop(_KEY, None)
        if observation is not None:
            observation.end(exception)

    def _refused(self, status: int, parsed: Mapping[str, Any], operation: str) -> Exception:
        """Return the exception that botocore is about to raise, with what tells its kind."""
        code = parsed.get("Error", {}).get("Code")
        error: Exception = self._exceptions.from_code(code)(parsed, operation)
        vars(error).update(status_code=status, code=code)
        return error


class _Events(EventStream):  # type: ignore[misc]  # botocore has no types
    """Stands for botocore's EventStream, and is one: whoever asks for its class sees no other."""

    def __init__(self, observation: Observation, stream: EventStream) -> None:
        self.__dict__.update(vars(stream))
        self._stream = stream
        self._events = open_stream(observation, iter(stream), _is_last, _content)

    def __iter__(self) -> Any:
        return self._events

    def close(self) -> None:
        """Close the stream, read to its end or not."""
        self._events.finish(GeneratorExit())
        self._stream.close()


def _content(event: Any) -> Any:
    """Return what an event says; the bytes of a chunk are JSON."""
    piece = event.get("chunk", {}).get("bytes") if isinstance(event, dict) else None
    return json.loads(piece) if piece else event


def _is_last(event: Any) -> bool:
    return "metadata" in event or _METRICS in event


def _request(params: Any, operation: str) -> dict[str, Any]:
    """Return the body of the call, and the id of the model."""
    if not isinstance(params, Mapping):
        return {}
    if operation not in _INVOCATIONS:
        return dict(params)
    request: dict[str, Any] = {"modelId": params.get("modelId")}
    body = params.get("body")
    if isinstance(body, str | bytes | bytearray):
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):  # no JSON: Bedrock will say so
            return request
        if isinstance(parsed, dict):
            return parsed | request
    return request
