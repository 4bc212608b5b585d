"""Amazon Bedrock: Converse and ConverseStream, and the bodies of InvokeModel that are not Anthropic's alone.

`inputTokens` is what was neither read from a cache nor written to one (prompt caching guide: the total input
is the sum of the three). No answer names the model asked for, which is what has a price: it comes from the request.
"""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from tokentide.producers.extraction import anthropic, openai_chat
from tokentide.producers.extraction.bedrock_model import called, requested
from tokentide.producers.extraction.reading import (
    Call,
    Reading,
    at,
    has_negative,
    mapping_at,
    number,
    sum_of,
    text_at,
)
from tokentide.producers.extraction.said import Said, said_in, said_of

__all__ = ["fold", "looks_like", "read"]

_METRICS = "amazon-bedrock-invocationMetrics"
_HEADER = "x-amzn-bedrock-{}-token-count"
_EVENTS = frozenset(
    {
        "contentBlockDelta",
        "contentBlockStart",
        "contentBlockStop",
        "generation_token_count",
        "inputTextTokenCount",
        "messageStart",
        "messageStop",
        _METRICS,
    }
)
_COUNTS = {
    "inputTokens": ("inputTokens", "inputTokenCount", "inputTextTokenCount", "prompt_token_count"),
    "outputTokens": ("outputTokens", "outputTokenCount", "generation_token_count"),
    "cacheReadInputTokens": ("cacheReadInputTokens", "cacheReadInputTokenCount"),
    "cacheWriteInputTokens": ("cacheWriteInputTokens", "cacheWriteInputTokenCount"),
}
_HEADERS = {
    "inputTokens": "input",
    "outputTokens": "output",
    "cacheReadInputTokens": "cache-read-input",
    "cacheWriteInputTokens": "cache-write-input",
}

_Count = int | Decimal


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is an answer, an event or a chunk of Bedrock's own form."""
    return (
        not _EVENTS.isdisjoint(answer)
        or ("stopReason" in answer and "output" in answer)
        or "inputTokens" in mapping_at(answer, "usage")
        or "inputTokens" in mapping_at(answer, "metadata", "usage")
        or "bytes" in mapping_at(answer, "chunk")
    )


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what an answer of Converse says, or the body of InvokeModel: Anthropic, OpenAI, Nova, Titan, Llama."""
    answer = {**answer, **_body(answer.get("body"))}
    if "input_tokens" in mapping_at(answer, "usage") or answer.get("type") == "message":
        reading = anthropic.read(answer, call)
        reading.facts["service_tier"] = reading.facts["service_tier"] or _tier(answer)
        return reading
    if isinstance(answer.get("choices"), list):  # gpt-oss, Jamba, and others that speak like OpenAI
        return _read_like_openai(answer, call)
    raw = _raw(answer)
    said = {name: _first(raw, names) for name, names in _COUNTS.items()}
    made = [number(each.get("tokenCount")) for each in _mappings(answer.get("results"))]
    if said["outputTokens"] is None and any(count is not None for count in made):
        said["outputTokens"] = sum((count or 0 for count in made), start=0)
    counts, total = _counts(said, raw), number(raw.get("totalTokens"))
    if answer.get("_stream") and _counts_its_cache_twice(said, call):
        counts["input_tokens"] = said["inputTokens"] or 0
    if "embedding" in answer or "embeddings" in answer:
        counts["output_tokens"] = 0
    content = _mappings(at(answer, "output", "message", "content"))
    counts["tool_calls"] = answer.get("_tool_calls", 0) + sum("toolUse" in block for block in content)
    facts: dict[str, Any] = {
        "request_id": text_at(answer, "ResponseMetadata", "RequestId"),
        "finish_reason": _reason(answer),
        "service_tier": _tier(answer),
        "speed": text_at(answer, "performanceConfig", "latency"),
        **called(answer, call),
    }
    if "embedding" in answer or "embeddings" in answer:
        facts["api_operation"] = "embeddings"
    return Reading(
        counts=counts,
        facts=facts,
        raw=raw or None,
        total=total,
        is_doubtful=has_negative(raw),
        said=said_of(answer).together(Said(map(_text, content))),
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add an event of ConverseStream, or what a chunk of InvokeModelWithResponseStream holds: a model's own event."""
    event = _json(at(chunk, "chunk", "bytes")) or chunk
    answer["_stream"] = True
    metrics = event.get(_METRICS)
    if isinstance(metrics, Mapping):
        answer[_METRICS] = dict(metrics)
    if isinstance(event.get("type"), str):
        anthropic.fold(answer, event)
        return
    if isinstance(event.get("choices"), list):
        openai_chat.fold(answer, event)
        answer["choices"] = []
        return
    delta = mapping_at(event, "contentBlockDelta", "delta")
    if "toolUse" in mapping_at(event, "contentBlockStart", "start"):
        answer["_tool_calls"] = answer.get("_tool_calls", 0) + 1
    reason = text_at(event, "messageStop", "stopReason") or _reason(event)
    if reason:
        answer["stopReason"] = reason
    told = mapping_at(event, "metadata")
    answer.update(
        {name: told[name] for name in ("usage", "serviceTier", "performanceConfig") if name in told}
    )
    if mapping_at(told, "trace", "promptRouter"):
        answer["trace"] = {"promptRouter": dict(mapping_at(told, "trace", "promptRouter"))}
    said = said_in(answer)
    said.add(_text(delta), number(at(event, "contentBlockDelta", "contentBlockIndex")))
    said.add(text_at(event, "outputText") or text_at(event, "generation"))


def _read_like_openai(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what a completion says; when it counts nothing, what Bedrock says beside it."""
    reading = openai_chat.read(answer, call)
    reading.facts |= called(answer, call)
    if reading.raw is None:
        beside = read({name: answer[name] for name in (_METRICS, "ResponseMetadata") if name in answer}, call)
        reading.counts, reading.raw = beside.counts | reading.counts, beside.raw
        reading.facts["request_id"] = reading.facts["request_id"] or beside.facts["request_id"]
    reading.facts["service_tier"] = _tier(answer) or reading.facts["service_tier"]
    return reading


def _tier(answer: Mapping[str, Any]) -> str | None:
    """Return the tier that served the call: Converse tells it in an object, InvokeModel as a text and in a header."""
    told = text_at(answer, "serviceTier", "type") or text_at(answer, "serviceTier")
    return told or text_at(answer, "ResponseMetadata", "HTTPHeaders", "x-amzn-bedrock-service-tier")


def _raw(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the usage as Bedrock says it: in the body, in a stream's metrics, else in the headers."""
    usage = mapping_at(answer, "usage") or mapping_at(answer, _METRICS)
    told = usage or {
        name: answer[name] for names in _COUNTS.values() for name in names if answer.get(name) is not None
    }
    headers = mapping_at(answer, "ResponseMetadata", "HTTPHeaders")
    return told or {
        name: count
        for name, kind in _HEADERS.items()
        if (count := number(headers.get(_HEADER.format(kind)))) is not None
    }


def _first(usage: Mapping[str, Any], names: tuple[str, ...]) -> _Count | None:
    return next((count for name in names if (count := number(usage.get(name))) is not None), None)


def _counts(said: Mapping[str, _Count | None], raw: Mapping[str, Any]) -> dict[str, _Count]:
    read, written = said["cacheReadInputTokens"] or 0, said["cacheWriteInputTokens"] or 0
    counts: dict[str, _Count] = {"cache_read_tokens": read, "cache_write_tokens": written}
    if said["inputTokens"] is not None:
        counts["input_tokens"] = sum_of(said["inputTokens"], read, written)
    if said["outputTokens"] is not None:
        counts["output_tokens"] = said["outputTokens"]
    counts["cache_write_1h_tokens"] = sum(
        (
            number(detail.get("inputTokens")) or 0
            for detail in _mappings(raw.get("cacheDetails"))
            if detail.get("ttl") == "1h"
        ),
        start=0,
    )
    return counts


def _counts_its_cache_twice(said: Mapping[str, _Count | None], call: Call) -> bool:
    """Return whether this is a stream of an OpenAI model whose input already holds its cache, in spite of the guide.

    Measured by others: https://github.com/maximhq/bifrost/pull/6942 and
    https://github.com/anomalyco/opencode/issues/47296; the total then counts the cache twice.
    """
    cached = (said["cacheReadInputTokens"] or 0) + (said["cacheWriteInputTokens"] or 0)
    return "openai." in requested(call) and 0 < cached <= (said["inputTokens"] or 0)


def _reason(answer: Mapping[str, Any]) -> str | None:
    inside = [*_mappings(answer.get("results")), *_mappings(answer.get("outputs"))]
    for each in (answer, *inside):
        for name in ("stopReason", "stop_reason", "completionReason"):
            if text_at(each, name):
                return text_at(each, name)
    return None


def _text(block: Mapping[str, Any]) -> str | None:
    """Return the text, the thought or a tool's input in a block or the delta of one."""
    thought = text_at(block, "reasoningContent", "text") or text_at(
        block, "reasoningContent", "reasoningText", "text"
    )
    return text_at(block, "text") or thought or text_at(block, "toolUse", "input")


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    items: Iterable[Any] = value if isinstance(value, list) else ()
    return [each for each in items if isinstance(each, Mapping)]


def _body(text: Any) -> Mapping[str, Any]:
    """Return the body of InvokeModel, without the names that families keep for themselves."""
    return {name: value for name, value in _json(text).items() if not name.startswith("_")}


def _json(text: Any) -> Mapping[str, Any]:
    if not isinstance(text, str):
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}
