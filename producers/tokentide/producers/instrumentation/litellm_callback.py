"""LiteLLM: a callback that meters what goes through `litellm.completion` and its siblings, or through its proxy.

`litellm.callbacks = [litellm_callback()]`. LiteLLM tells its callbacks nothing of a stream that is left before its
end, nor of a cancelled task: see `open_call`.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from tokentide.producers.attribution import count_unattributed, current_attribution
from tokentide.producers.extraction import extract
from tokentide.producers.instrumentation import checked_defaults
from tokentide.producers.instrumentation.litellm_record import (
    failure_in,
    is_streamed,
    is_told,
    is_unseen,
    mapping,
    metadata_in,
    operation_of,
    owners_in,
    times_in,
)
from tokentide.producers.instrumentation.litellm_streams import watch_google_streams, watch_streams
from tokentide.producers.instrumentation.observe import DefaultTracker
from tokentide.producers.instrumentation.open_call import Clock, OpenCall
from tokentide.producers.instrumentation.runs import Runs
from tokentide.producers.observation import Observation, Tracker
from tokentide.producers.observation_tally import complain
from tokentide.producers.usage import event_id_of, joined_metadata
from tokentide.schemas.provider import canonical_provider

__all__ = ["litellm_callback"]

# Paid by other units than tokens, which LiteLLM's own record leaves out: read from answer and request.
_UNITS = frozenset({"image", "speech", "transcription"})
_numbers = itertools.count()


def litellm_callback(producer: Tracker | None = None, **defaults: Any) -> Any:
    """Return a LiteLLM callback that sends an event for each call, failed attempts included; it raises nothing.

    Raises ImportError when litellm is not installed.
    """
    try:
        from litellm.integrations.custom_logger import CustomLogger
    except ImportError as error:
        raise ImportError("litellm_callback() needs litellm: pip install litellm") from error

    calls = _Calls(producer, defaults)
    watch_streams()

    class TokentideLiteLLM(CustomLogger):
        """Meters calls; LiteLLM passes these arguments by exactly these names."""

        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            calls.begin(kwargs)

        def log_post_api_call(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            calls.answered(kwargs)

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
        self._key = f"tokentide_open_call_{next(_numbers)}"

    def begin(self, kwargs: Any) -> None:
        """Remember who makes the call, for its end is told in another thread; and that it is open."""
        try:
            attribution = current_attribution()
            if attribution:
                self._attributed.put(kwargs.get("litellm_call_id"), attribution)
            before = kwargs.pop(self._key, None)
            if before is not None:
                before.ends()  # a further attempt: LiteLLM tells of the one before what it wants to
            operation = operation_of(kwargs.get("call_type"))
            if operation is not None and is_told(kwargs):
                kwargs[self._key] = self._opened(kwargs, operation)
        except Exception as error:
            complain("litellm", error)

    def answered(self, kwargs: Any) -> None:
        """Remember what the provider answered, for a call that is cancelled while it is read."""
        try:
            answer = kwargs.get("original_response")
            if hasattr(answer, "__next__") or hasattr(answer, "__anext__"):
                # LiteLLM keeps a stream in the record that the stream keeps: neither would be freed when it is left.
                kwargs["original_response"] = answer = "first stream response received"
            call = kwargs.get(self._key)
            if call is not None:
                call.answered(answer)
        except Exception as error:
            complain("litellm", error)

    def _opened(self, record: Mapping[str, Any], operation: str) -> OpenCall:
        known, provider = metadata_in(record), str(record.get("custom_llm_provider") or "other")
        said = record.get("messages") or record.get("input")
        request = {
            **mapping(record.get("optional_params")),
            "messages" if operation == "chat" else "input": said,
        }
        defaults = {**self._defaults, **owners_in(known, {"end_user": record.get("user")})}
        tags = {str(tag): "" for tag in known.get("tags") or ()} | (self._defaults.get("tags") or {})
        if tags:
            defaults["tags"] = dict(list(tags.items())[-32:])
        clock = Clock()
        observation = Observation(
            self._tracker,
            canonical_provider(provider),
            operation,
            request,
            defaults=defaults,
            model=str(record.get("model") or "").removeprefix(f"{provider}/"),
            stream=is_streamed(record),
            monotonic=clock,
        )
        call = OpenCall(observation, clock, request)
        if is_unseen(record):
            if "generate_content" in str(record.get("call_type")):
                watch_google_streams()
            call.opened()  # it may cost from now on
        return call

    def end(self, kwargs: Any, answer: Any) -> None:
        """Send the event of a call that succeeded or failed."""
        try:
            logged = kwargs.get("standard_logging_object") or {}
            operation = operation_of(logged.get("call_type"))
            call_id, call = kwargs.get("litellm_call_id"), kwargs.get(self._key)
            if call_id and not self._ended.put((call_id, logged.get("id"), logged.get("status")), True):
                return
            if call is not None and not call.ends():
                return
            # An answer out of LiteLLM's own cache costs nothing: nobody was called.
            if operation is None or logged.get("cache_hit") is True:
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
        known = mapping(logged.get("metadata"))
        tags = {str(tag): "" for tag in logged.get("request_tags") or ()}
        fields: dict[str, Any] = {
            **self._defaults,
            **owners_in(known, logged),
            **attribution,
            "provider": provider,
            "model": model,
            "api_operation": operation,
            "stream": logged.get("stream") is True or is_streamed(kwargs),
            **times_in(logged),
        }
        tags |= {**(self._defaults.get("tags") or {}), **(attribution.get("tags") or {})}
        if tags:
            fields["tags"] = dict(list(tags.items())[-32:])
        call = kwargs.get(self._key)
        if answer is None:
            fields |= failure_in(mapping(logged.get("error_information")))
            if call is None or not call.chunks:
                return fields
            usage = extract(
                iter(call.chunks), provider, model=model, api_operation=operation, request=call.request
            )
        elif operation in _UNITS:
            request = {**mapping(kwargs.get("optional_params")), "input": kwargs.get("input")}
            usage = extract(answer, provider, model=model, api_operation=operation, request=request)
        else:
            usage = extract(dict(logged), provider, model=model, api_operation=operation)
        read = usage.fields()
        read["metadata"] = joined_metadata(fields.get("metadata") or {}, read["metadata"])
        if usage.request_id:
            read["event_id"] = event_id_of(usage.provider, usage.request_id)
        return fields | read
