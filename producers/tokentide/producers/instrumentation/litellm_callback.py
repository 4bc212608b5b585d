"""LiteLLM: a callback that meters what goes through `litellm.completion` and its siblings, or through its proxy.

`litellm.callbacks = [litellm_callback()]`. LiteLLM tells its callbacks nothing of a stream that is left before its
end.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tokentide.producers.attribution import count_unattributed, current_attribution
from tokentide.producers.extraction import extract
from tokentide.producers.instrumentation import checked_defaults
from tokentide.producers.instrumentation.observe import DefaultTracker
from tokentide.producers.instrumentation.runs import Runs
from tokentide.producers.observation import Tracker, complain
from tokentide.producers.usage import event_id_of, joined_metadata
from tokentide.schemas.provider import canonical_provider

__all__ = ["litellm_callback"]

# LiteLLM's `call_type` of calls that a model answers; the asynchronous twins have an `a` before it.
_OPERATIONS = {
    "anthropic_messages": "chat",
    "completion": "chat",
    "embedding": "embeddings",
    "generate_content": "chat",
    "generate_content_stream": "chat",
    "image_edit": "image",
    "image_generation": "image",
    "ocr": "ocr",
    "rerank": "rerank",
    "responses": "responses",
    "speech": "speech",
    "text_completion": "chat",
    "transcription": "transcription",
}
# Paid by other units than tokens, which LiteLLM's own record leaves out: read from answer and request.
_UNITS = frozenset({"image", "speech", "transcription"})
# What the proxy knows of its callers; attribution() wins.
_OWNERS = {
    "user_id": ("user_api_key_user_id", "user_api_key_end_user_id"),
    "team_id": ("user_api_key_team_id",),
    "org_id": ("user_api_key_org_id",),
}


def litellm_callback(producer: Tracker | None = None, **defaults: Any) -> Any:
    """Return a LiteLLM callback that sends an event for each call, failed attempts included; it raises nothing.

    Raises ImportError when litellm is not installed.
    """
    try:
        from litellm.integrations.custom_logger import CustomLogger
    except ImportError as error:
        raise ImportError("litellm_callback() needs litellm: pip install litellm") from error

    calls = _Calls(producer, defaults)

    class TokentideLiteLLM(CustomLogger):
        """Meters calls; LiteLLM passes these arguments by exactly these names."""

        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            calls.begin(kwargs)

        def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            calls.end(kwargs, response_obj)

        def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            calls.end(kwargs, None)

        async def async_log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            calls.end(kwargs, response_obj)

        async def async_log_failure_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            calls.end(kwargs, None)

    return TokentideLiteLLM()


class _Calls:
    """The calls that one callback is told of; LiteLLM may tell the end of one twice, in two threads."""

    def __init__(self, producer: Tracker | None, defaults: Mapping[str, Any]) -> None:
        self._tracker = producer if producer is not None else DefaultTracker()
        self._defaults = {"source": "litellm", **checked_defaults(defaults)}
        self._attributed: Runs[dict[str, Any]] = Runs()
        self._ended: Runs[bool] = Runs()

    def begin(self, kwargs: Any) -> None:
        """Remember who makes the call: its end is told in another thread."""
        try:
            attribution = current_attribution()
            if attribution:
                self._attributed.put(kwargs.get("litellm_call_id"), attribution)
        except Exception as error:
            complain("litellm", error)

    def end(self, kwargs: Any, answer: Any) -> None:
        """Send the event of a call that succeeded or failed."""
        try:
            logged = kwargs.get("standard_logging_object") or {}
            kind = str(logged.get("call_type") or "")
            operation = _OPERATIONS.get(kind) or _OPERATIONS.get(kind.removeprefix("a"))
            # An answer out of LiteLLM's own cache costs nothing: nobody was called.
            if operation is None or logged.get("cache_hit") is True:
                return
            call_id = kwargs.get("litellm_call_id")
            if call_id and not self._ended.put((call_id, logged.get("id"), logged.get("status")), True):
                return
            # What happened since may still end for the same call: a retry, a fallback.
            attribution = self._attributed.get(call_id) or current_attribution()
            fields = self._fields(logged, kwargs, operation, answer, attribution)
            count_unattributed(fields)
            self._tracker.track(**fields)
        except Exception as error:  # LiteLLM would print its trace
            complain("litellm", error)

    def _fields(
        self,
        logged: Mapping[str, Any],
        kwargs: Mapping[str, Any],
        operation: str,
        answer: Any,
        attribution: Mapping[str, Any],
    ) -> dict[str, Any]:
        provider = canonical_provider(
            logged.get("custom_llm_provider") or kwargs.get("custom_llm_provider") or "other"
        )
        model = str(logged.get("model") or kwargs.get("model") or "unknown").removeprefix(
            f"{logged.get('custom_llm_provider')}/"
        )
        known = _mapping(logged.get("metadata"))
        tags = {str(tag): "" for tag in logged.get("request_tags") or ()}
        fields: dict[str, Any] = {
            **self._defaults,
            **_owners(known, logged),
            **attribution,
            "provider": provider,
            "model": model,
            "api_operation": operation,
            "stream": logged.get("stream") is True,
            **_times(logged),
        }
        tags |= {**(self._defaults.get("tags") or {}), **(attribution.get("tags") or {})}
        if tags:
            fields["tags"] = dict(list(tags.items())[-32:])
        if answer is None:
            return fields | _failure(_mapping(logged.get("error_information")))
        if operation in _UNITS:
            request = {**_mapping(kwargs.get("optional_params")), "input": kwargs.get("input")}
            usage = extract(answer, provider, model=model, api_operation=operation, request=request)
        else:
            usage = extract(dict(logged), provider, model=model, api_operation=operation)
        read = usage.fields()
        read["metadata"] = joined_metadata(fields.get("metadata") or {}, read["metadata"])
        if usage.request_id:
            read["event_id"] = event_id_of(usage.provider, usage.request_id)
        return fields | read


def _owners(known: Mapping[str, Any], logged: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, sources in _OWNERS.items():
        value = next((known[source] for source in sources if known.get(source)), None)
        if value:
            found[name] = str(value)[:256]
    if "user_id" not in found and logged.get("end_user"):
        found["user_id"] = str(logged["end_user"])[:256]
    return found


def _times(logged: Mapping[str, Any]) -> dict[str, Any]:
    """Return when the call was made and how long it took; LiteLLM counts Unix seconds."""
    start, end, first = (logged.get(name) for name in ("startTime", "endTime", "completionStartTime"))
    times: dict[str, Any] = {}
    if isinstance(start, int | float) and start > 0:
        times["timestamp"] = datetime.fromtimestamp(start, UTC)
        if isinstance(end, int | float):
            times["latency_ms"] = max((end - start) * 1000, 0.0)
        if logged.get("stream") is True and isinstance(first, int | float):
            times["ttft_ms"] = max((first - start) * 1000, 0.0)
    return times


def _failure(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what kind of failure it was, never its text, which may quote the prompt."""
    fields = {"status": "error", "error_type": str(told.get("error_class") or "error")[:256]}
    code = str(told.get("error_code") or "")
    return fields | ({"error_message": f"HTTP {code}"} if code.isdigit() else {})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
