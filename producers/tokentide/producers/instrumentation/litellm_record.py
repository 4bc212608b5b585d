"""LiteLLM's record of a call (`Logging.model_call_details`): who called whom, and how it went."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = [
    "failure_in",
    "is_streamed",
    "is_told",
    "is_unseen",
    "mapping",
    "metadata_in",
    "operation_of",
    "owners_in",
    "times_in",
]

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
# Streams whose beginning nobody can watch.
_UNSEEN = frozenset({"anthropic_messages", "generate_content_stream", "agenerate_content_stream"})
# In LiteLLM's record of what it refused itself: no provider was called.
_NO_CALL = "litellm_no_upstream_llm_call"
# What the proxy knows of its callers; attribution() wins.
_OWNERS = {
    "user_id": ("user_api_key_user_id", "user_api_key_end_user_id"),
    "team_id": ("user_api_key_team_id",),
    "org_id": ("user_api_key_org_id",),
}


def operation_of(kind: object) -> str | None:
    """Return what a `call_type` asks for; None for what no model answers."""
    return _OPERATIONS.get(str(kind)) or _OPERATIONS.get(str(kind).removeprefix("a"))


def is_told(record: Mapping[str, Any]) -> bool:
    """Whether LiteLLM would tell the end of this call.

    It does not for a call inside of another, which tells of both, nor for one that asks for no log.
    """
    import litellm

    silent = mapping(record.get("litellm_params")).get("no-log") is True
    return (
        _NO_CALL not in record
        and not _is_inside_another()
        and (not silent or getattr(litellm, "global_disable_no_log_param", False))
    )


def _is_inside_another() -> bool:
    try:
        from litellm._internal_context import is_internal_call
    except ImportError:  # a LiteLLM that makes none
        return False
    return is_internal_call.get()


def metadata_in(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata of a call, in which the proxy says who called; some calls have it under another name."""
    told = mapping(record.get("litellm_params"))
    return {**mapping(told.get("litellm_metadata")), **mapping(told.get("metadata"))}


def is_streamed(record: Mapping[str, Any]) -> bool:
    """Whether a stream was asked for."""
    return (
        record.get("stream") is True
        or mapping(record.get("optional_params")).get("stream") is True
        or str(record.get("call_type")).endswith("_stream")
    )


def is_unseen(record: Mapping[str, Any]) -> bool:
    """Whether nobody sees when the stream of this call begins."""
    return is_streamed(record) and record.get("call_type") in _UNSEEN


def owners_in(known: Mapping[str, Any], logged: Mapping[str, Any]) -> dict[str, str]:
    """Return whom a call belongs to, as the proxy or the call itself says it."""
    found = {}
    for name, sources in _OWNERS.items():
        value = next((known[source] for source in sources if known.get(source)), None)
        if value:
            found[name] = str(value)[:256]
    if "user_id" not in found and logged.get("end_user"):
        found["user_id"] = str(logged["end_user"])[:256]
    return found


def times_in(logged: Mapping[str, Any]) -> dict[str, Any]:
    """Return when the call was made and how long it took; LiteLLM counts Unix seconds."""
    start, end, first = (logged.get(name) for name in ("startTime", "endTime", "completionStartTime"))
    found: dict[str, Any] = {}
    if isinstance(start, int | float) and start > 0:
        found["timestamp"] = datetime.fromtimestamp(start, UTC)
        if isinstance(end, int | float):
            found["latency_ms"] = max((end - start) * 1000, 0.0)
        if logged.get("stream") is True and isinstance(first, int | float):
            found["ttft_ms"] = max((first - start) * 1000, 0.0)
    return found


def failure_in(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what kind of failure it was, never its text, which may quote the prompt."""
    fields = {"status": "error", "error_type": str(told.get("error_class") or "error")[:256]}
    code = str(told.get("error_code") or "")
    return fields | ({"error_message": f"HTTP {code}"} if code.isdigit() else {})


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the value, or nothing when it is no mapping."""
    return value if isinstance(value, Mapping) else {}
