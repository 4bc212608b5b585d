"""LangChain: messages with `usage_metadata`, and the LLMResult that callbacks are given.

`usage_metadata` is inclusive (langchain-core 1.8, UsageMetadata); chunks of a stream are made to be added up.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import reduce
from typing import Any

from tokentide.producers.extraction.openai_usage import tier_of, tokens_of
from tokentide.producers.extraction.reading import Call, Reading, mapping_at, number, text_at
from tokentide.producers.extraction.said import Said, said_in, said_of

__all__ = ["fold", "looks_like", "read"]

# As langchain-core's `model_provider` says it; the other names are those of tokentide.schemas.provider.
_PROVIDERS = {
    "amazon_bedrock": "aws",
    "anthropic_bedrock": "aws",
    "azure_ai": "azure",
    "bedrock_converse": "aws",
    "google_anthropic_vertex": "google",
    "google_genai": "google",
    "google_vertexai": "google",
}
# langchain-openai puts the service tier before the names of details.
_TIERS = ("", "flex_", "priority_")
_MODELS = ("model_name", "model", "model_id")
_REASONS = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_KEPT = (
    *_MODELS,
    *_REASONS,
    "id",
    "model_provider",
    "service_tier",
    "system_fingerprint",
    "token_usage",
    "usage",
)
_LIFETIMES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")

_Count = int | Decimal


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is a message of a model, a chunk of one, a generation with one, or an LLMResult."""
    return (
        isinstance(answer.get("generations"), list)
        or "response_metadata" in answer
        or "response_metadata" in mapping_at(answer, "message")
    )


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what a message says, or all messages of an LLMResult together."""
    prompts = _prompts(answer) or [[answer]]
    readings = [_read_prompt(generations) for generations in prompts]
    output = mapping_at(answer, "llm_output")
    if output and all(reading.raw is None for reading in readings):
        return _read_output(output, readings, [each for generations in prompts for each in generations])
    return _together(readings)


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add a chunk of a stream: counts are added, the rest replaces what was said before."""
    message = mapping_at(chunk, "message") or chunk
    if message.get("usage_metadata"):
        answer["usage_metadata"] = _added(
            mapping_at(answer, "usage_metadata"), mapping_at(message, "usage_metadata")
        )
    metadata = mapping_at(message, "response_metadata")
    said = {name: metadata[name] for name in _KEPT if metadata.get(name)}
    answer["response_metadata"] = {**mapping_at(answer, "response_metadata"), **said}
    answer["id"] = answer.get("id") or message.get("id")
    said_so_far = said_in(answer)
    for text in _texts(message.get("content")):
        said_so_far.add(text)
    answer["_tool_calls"] = answer.get("_tool_calls", 0) + sum(
        bool(text_at(each, "name")) for each in _list(message.get("tool_call_chunks"))
    )


def _prompts(answer: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """Return the answers to each prompt of an LLMResult; none of a message."""
    prompts = (each if isinstance(each, list) else [each] for each in _list(answer.get("generations")))
    found = ([each for each in prompt if isinstance(each, Mapping)] for prompt in prompts)
    return [prompt for prompt in found if prompt]


def _read_prompt(generations: list[Mapping[str, Any]]) -> Reading:
    """Return what one call used: each of its answers repeats the usage of the whole call."""
    readings = [_read(mapping_at(each, "message") or each) for each in generations]
    told = next((reading for reading in readings if reading.raw is not None), readings[0])
    told.said = reduce(Said.together, (reading.said for reading in readings))
    if len(readings) > 1:
        told.counts["tool_calls"] = sum(reading.counts.get("tool_calls", 0) for reading in readings)
    return told


def _read(message: Mapping[str, Any]) -> Reading:
    metadata, usage = mapping_at(message, "response_metadata"), mapping_at(message, "usage_metadata")
    counts, raw, total = _counts(usage), usage, number(usage.get("total_tokens"))
    if not usage:
        raw = mapping_at(metadata, "token_usage") or mapping_at(metadata, "usage")
        counts, total = tokens_of(raw, None, None) if raw else ({}, None)
    if said_of(message) and counts.get("output_tokens") == 0 and _first(metadata, _REASONS) is None:
        # A stream that was cut: the first chunk of langchain-anthropic (before 1.0) counts the prompt only.
        del counts["output_tokens"]
    calls = len(_list(message.get("tool_calls"))) or message.get("_tool_calls", 0)
    if calls:
        counts["tool_calls"] = calls
    return Reading(
        counts=counts,
        facts=_facts(metadata, text_at(message, "id")),
        raw=raw or None,
        total=total,
        said=said_of(message) or Said(_texts(message.get("content") or message.get("text"))),
    )


def _counts(usage: Mapping[str, Any]) -> dict[str, _Count]:
    inside, outside = mapping_at(usage, "input_token_details"), mapping_at(usage, "output_token_details")
    counts = {
        name: count
        for name in ("input_tokens", "output_tokens")
        if (count := number(usage.get(name))) is not None
    }
    if not counts:
        return {}
    lifetimes = [number(inside.get(name)) or 0 for name in _LIFETIMES]
    # langchain-anthropic empties the sum when it names lifetimes, langchain-aws keeps it.
    written = max(number(inside.get("cache_creation")) or 0, sum(lifetimes))
    return counts | {
        "cache_read_tokens": _detail(inside, "cache_read"),
        "cache_write_tokens": written,
        "cache_write_1h_tokens": lifetimes[1],
        "input_audio_tokens": _detail(inside, "audio"),
        "input_image_tokens": _detail(inside, "image"),
        "output_audio_tokens": _detail(outside, "audio"),
        "output_image_tokens": _detail(outside, "image"),
        "reasoning_tokens": _detail(outside, "reasoning"),
    }


def _detail(details: Mapping[str, Any], name: str) -> _Count:
    return sum((number(details.get(tier + name)) or 0 for tier in _TIERS), start=0)


def _facts(metadata: Mapping[str, Any], message_id: str | None) -> dict[str, Any]:
    provider = text_at(metadata, "model_provider") or text_at(metadata, "ls_provider")
    if message_id and message_id.startswith(("run-", "lc_")):  # LangChain's own, no provider's
        message_id = None
    return {
        "model": _first(metadata, _MODELS),
        "request_id": text_at(metadata, "id") or message_id,
        "finish_reason": _first(metadata, _REASONS),
        "service_tier": tier_of(metadata),
        "system_fingerprint": text_at(metadata, "system_fingerprint"),
        "provider": _PROVIDERS.get(provider, provider) if provider else None,
    }


def _read_output(
    output: Mapping[str, Any], readings: list[Reading], generations: list[Mapping[str, Any]]
) -> Reading:
    """Return what `llm_output` says for the whole result; models without messages say it only there."""
    usage = mapping_at(output, "token_usage") or mapping_at(output, "usage")
    tokens = tokens_of(usage, None, None)
    together = _together(readings)
    facts = {name: value for name, value in _facts(output, None).items() if value is not None}
    reasons = (_first(mapping_at(each, "generation_info"), _REASONS) for each in generations)
    reason = together.facts["finish_reason"] or next(filter(None, reasons), None)
    together.facts |= facts | {"finish_reason": reason}
    together.counts |= tokens.counts
    together.raw, together.total = usage if tokens.counts else None, tokens.total
    return together


def _together(readings: list[Reading]) -> Reading:
    """Return the sum of several calls, which is paid as so many requests."""
    if len(readings) == 1:
        return readings[0]
    counts: dict[str, _Count] = {}
    for reading in readings:
        for name, count in reading.counts.items():
            counts[name] = counts.get(name, 0) + count
    raws = [dict(reading.raw) for reading in readings if reading.raw is not None]
    return Reading(
        counts=counts,
        facts={**readings[0].facts, "request_id": None, "requests": len(readings)},
        raw={"messages": raws} if raws else None,
        said=reduce(Said.together, (reading.said for reading in readings)),
    )


def _added(before: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    total: dict[str, Any] = dict(before)
    for name, value in more.items():
        if isinstance(value, Mapping):
            total[name] = _added(mapping_at(before, name), value)
        elif (count := number(value)) is not None:
            total[name] = (number(total.get(name)) or 0) + count
    return total


def _first(metadata: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((found for name in names if (found := text_at(metadata, name))), None)


def _texts(content: Any) -> Iterator[str | None]:
    for each in [content] if isinstance(content, str) else _list(content):
        yield each if isinstance(each, str) else text_at(each, "text") or text_at(each, "thinking")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
