"""OpenTelemetry: spans of calls of models (`gen_ai.*`) become usage events.

Names are those of the semantic conventions for GenAI and their older spellings. Spans do not tell pictures, searches
of the web, or how long a cache lives. Whoever also instruments the client observes a call twice: both events have the
same event_id when the span tells `gen_ai.response.id`, and count once.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tokentide.producers.attribution import count_unattributed, current_attribution
from tokentide.producers.extraction.core import usage_of
from tokentide.producers.extraction.reading import Call, Reading, number
from tokentide.producers.instrumentation import checked_defaults
from tokentide.producers.instrumentation.observe import DefaultTracker
from tokentide.producers.instrumentation.runs import Runs
from tokentide.producers.observation import Tracker
from tokentide.producers.observation_tally import complain
from tokentide.producers.usage import event_id_of
from tokentide.schemas.provider import canonical_provider

__all__ = ["span_processor"]

_USAGE = "gen_ai.usage."
# Each count by its names, the newest first.
_COUNTS = {
    "input_tokens": ("input_tokens", "prompt_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "cache_read_tokens": ("cache_read.input_tokens", "cache_read_input_tokens"),
    "cache_write_tokens": (
        "cache_write.input_tokens",
        "cache_creation.input_tokens",
        "cache_creation_input_tokens",
    ),
    "reasoning_tokens": ("reasoning.output_tokens", "reasoning_tokens"),
    "input_audio_tokens": ("audio.input_tokens",),
    "output_audio_tokens": ("audio.output_tokens",),
    "input_image_tokens": ("image.input_tokens",),
    "output_image_tokens": ("image.output_tokens",),
}
_OPERATIONS = {
    "chat": "chat",
    "embeddings": "embeddings",
    "generate_content": "chat",
    "text_completion": "chat",
}
# Each model inside of them has a span of its own.
_NO_CALLS = frozenset({"create_agent", "execute_tool", "invoke_agent", "invoke_workflow"})
_FACTS = {
    "service_tier": ("openai.response.service_tier", "gen_ai.openai.response.service_tier"),
    "system_fingerprint": (
        "openai.response.system_fingerprint",
        "gen_ai.openai.response.system_fingerprint",
    ),
}
# Who and what for, as spans tell it; attribution() wins.
_LABELS = {
    "user_id": ("user.id", "enduser.id"),
    "session_id": ("session.id",),
    "conversation_id": ("gen_ai.conversation.id",),
    "agent_name": ("gen_ai.agent.name",),
}
_RESOURCE = {
    "service": ("service.name",),
    "environment": ("deployment.environment.name", "deployment.environment"),
}


def span_processor(producer: Tracker | None = None, **defaults: Any) -> Any:
    """Return an OpenTelemetry SpanProcessor that makes a usage event of each span of a call of a model.

    `provider.add_span_processor(span_processor())`. Spans without usage are left out, but those of calls that failed.
    Raises ImportError when opentelemetry-sdk is not installed.
    """
    try:
        from opentelemetry.sdk.trace import SpanProcessor
    except ImportError as error:
        raise ImportError(
            "span_processor() needs opentelemetry-sdk: pip install opentelemetry-sdk"
        ) from error

    tracker = producer if producer is not None else DefaultTracker()
    known = {"source": "otel", **checked_defaults(defaults)}
    attributed: Runs[dict[str, Any]] = Runs()

    class TokentideSpans(SpanProcessor):
        """Sends an event when a span ends, attributed as it was when the span began."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            attribution = current_attribution()
            if attribution:
                attributed.put(span.context.span_id, attribution)

        def on_end(self, span: Any) -> None:
            try:
                attribution = attributed.take(span.context.span_id)
                fields = _fields(span)
                if fields is not None:
                    fields = _merged(known, fields, attribution or current_attribution())
                    count_unattributed(fields)
                    tracker.track(**fields)
            except Exception as error:  # a span unlike any other: the service goes on
                complain("span", error)

    return TokentideSpans()


def _merged(
    defaults: Mapping[str, Any], told: Mapping[str, Any], attribution: Mapping[str, Any]
) -> dict[str, Any]:
    fields = {**defaults, **told, **attribution}
    tags = {**(defaults.get("tags") or {}), **(attribution.get("tags") or {})}
    metadata = {**(defaults.get("metadata") or {}), **(told.get("metadata") or {})}
    return fields | {name: value for name, value in (("tags", tags), ("metadata", metadata)) if value}


def _fields(span: Any) -> dict[str, Any] | None:
    """Return the event of the span; None when it is none of a call of a model."""
    attributes: Mapping[str, Any] = span.attributes or {}
    provider = _text(attributes, ("gen_ai.provider.name", "gen_ai.system"))
    operation = _text(attributes, ("gen_ai.operation.name",))
    if provider is None or operation in _NO_CALLS:
        return None
    reading = _reading(attributes)
    failure = _failure(span, attributes)
    asked = _text(attributes, ("gen_ai.request.model",))
    # SDKs make spans of all they do, and a list of files that failed was no call of a model.
    if not reading.counts and not (failure and (asked or operation in _OPERATIONS)):
        return None
    call = Call(
        canonical_provider(provider), asked or "unknown", _OPERATIONS.get(operation or "chat", "other"), {}
    )
    fields: dict[str, Any] = {
        "provider": call.provider,
        "model": call.model,
        "api_operation": call.api_operation,
        "request_model": asked,
    }
    if reading.counts:
        fields |= usage_of(reading, call).fields() | {"request_model": asked}
    request_id = fields.get("request_id")
    if request_id:
        fields["event_id"] = event_id_of(fields["provider"], request_id)
    fields |= _times(span, attributes) | failure
    fields |= {
        name: value for name, names in _LABELS.items() if (value := _text(attributes, names)) is not None
    }
    resource: Mapping[str, Any] = getattr(span.resource, "attributes", None) or {}
    fields |= {
        name: value for name, names in _RESOURCE.items() if (value := _text(resource, names)) is not None
    }
    return {name: value for name, value in fields.items() if value is not None}


def _reading(attributes: Mapping[str, Any]) -> Reading:
    usage = {name: value for name, value in attributes.items() if name.startswith(_USAGE)}
    counts = {}
    for count, names in _COUNTS.items():
        told = (number(usage.get(_USAGE + name)) for name in names)
        value = next((each for each in told if each is not None), None)
        if value is not None:
            counts[count] = value
    cached = counts.get("cache_read_tokens", 0) + counts.get("cache_write_tokens", 0)
    if cached > counts.get("input_tokens", 0):
        # Against the conventions, which count the cache inside: Anthropic's own number.
        counts["input_tokens"] = counts.get("input_tokens", 0) + cached
    reasons = attributes.get("gen_ai.response.finish_reasons")
    facts: dict[str, Any] = {name: _text(attributes, names) for name, names in _FACTS.items()}
    facts |= {
        "model": _text(attributes, ("gen_ai.response.model",)),
        "request_id": _text(attributes, ("gen_ai.response.id",)),
        "finish_reason": reasons[0] if isinstance(reasons, list | tuple) and reasons else None,
    }
    return Reading(counts=counts, facts=facts, raw=usage or None)


def _failure(span: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
    kind = _text(attributes, ("error.type",))
    if kind is None and span.status.status_code.name != "ERROR":
        return {}
    return {"status": "error", "error_type": kind or "error"}


def _times(span: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return when the call was made and how long it took; spans count nanoseconds, and seconds to the first chunk."""
    times: dict[str, Any] = {
        "timestamp": datetime.fromtimestamp(span.start_time / 1e9, UTC),
        "latency_ms": max(span.end_time - span.start_time, 0) / 1e6,
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
    }
    first = number(attributes.get("gen_ai.response.time_to_first_chunk"))
    if first is not None:
        times["ttft_ms"] = max(float(first) * 1000, 0.0)
    if attributes.get("gen_ai.request.stream") is True or first is not None:
        times["stream"] = True
    return times


def _text(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next(
        (value[:256] for name in names if isinstance(value := attributes.get(name), str) and value), None
    )
