"""Anthropic's messages, as Anthropic, Vertex AI, Azure and Bedrock's InvokeModel answer them.

`input_tokens` is what was neither read from a cache nor written to one (prompt caching guide), so the
inclusive input is a sum of three. Of a stream, `message_start` knows the input and each `message_delta` says
cumulative counts, with nulls for what it does not repeat (anthropic 2.14, MessageDeltaUsage).
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from tokentide.producers.extraction.bedrock_model import called
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

_EVENTS = frozenset(
    {
        "message",
        "message_start",
        "message_delta",
        "message_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "ping",
    }
)
_TOOLS = ("tool_use", "mcp_tool_use", "server_tool_use")
_TEXTS = ("text", "thinking", "partial_json")
_ADDED = {
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
}

_Counts = dict[str, int | Decimal]


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is a Message, an event of a stream of one, or a line of a batch's results."""
    return text_at(answer, "type") in _EVENTS or (
        "custom_id" in answer and "type" in mapping_at(answer, "result")
    )


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what a Message says, or the line of a batch's results that holds one."""
    in_batch = "custom_id" in answer and "result" in answer
    message = mapping_at(answer, "result", "message") if in_batch else answer
    usage = mapping_at(message, "usage")
    counts, raw = _counts(usage), usage or None
    if message.get("_unfinished"):
        counts.pop("output_tokens", None)
    elif in_batch and not message:  # a request that errored, expired or was cancelled is not billed
        counts, raw = {"input_tokens": 0, "output_tokens": 0}, {"result": at(answer, "result", "type")}
    aside = _untold_writes(usage)
    for part in _iterations(usage):
        beside = _counts(part)
        if part.get("type") == "compaction" or part.get("model") == message.get("model"):
            for name in _ADDED & beside.keys():
                counts[name] = counts.get(name, 0) + beside[name]
        else:  # an advisor of another model: its tokens have another price, and no place in this event
            aside += _sum(beside)
    searches = number(at(usage, "server_tool_use", "web_search_requests"))
    if searches is not None:
        counts["web_searches"] = searches
    counts["tool_calls"] = message.get("_tool_calls") or _tool_calls(message.get("content"))
    facts = _facts(message, usage, in_batch)
    if call.provider == "aws":
        facts |= called(answer, call)
    return Reading(
        counts=counts,
        facts=facts,
        raw=raw,
        total=_sum(counts) + aside if aside else None,
        is_doubtful=has_negative(usage),
        said=said_of(message)
        or Said(text for block in _blocks(message.get("content")) for text in _texts(block)),
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add an event of a stream; its text goes to what was said."""
    kind = chunk.get("type")
    if kind == "message_start":
        message = mapping_at(chunk, "message")
        answer.update({name: message.get(name) for name in ("id", "model", "type")})
        _merge(answer, mapping_at(message, "usage"))
        answer["_unfinished"] = True
    elif kind == "content_block_start":
        started = _tool_calls([chunk.get("content_block")])
        if started:
            answer["_tool_calls"] = answer.get("_tool_calls", 0) + started
    elif kind == "content_block_delta":
        for text in _texts(chunk.get("delta")):
            said_in(answer).add(text, number(chunk.get("index")))
    elif kind == "message_delta":
        answer["stop_reason"] = at(chunk, "delta", "stop_reason") or answer.get("stop_reason")
        _merge(answer, mapping_at(chunk, "usage"))
        if at(chunk, "usage", "output_tokens") is not None:
            answer.pop("_unfinished", None)


def _merge(answer: dict[str, Any], usage: Mapping[str, Any]) -> None:
    said = {name: value for name, value in usage.items() if value is not None}
    answer["usage"] = {**mapping_at(answer, "usage"), **said}


def _counts(usage: Mapping[str, Any]) -> _Counts:
    plain, output = number(usage.get("input_tokens")), number(usage.get("output_tokens"))
    cached = number(usage.get("cache_read_input_tokens"))
    written, written_1h = number(usage.get("cache_creation_input_tokens")), _lifetime(usage, "1h")
    if written is None:
        written = _lifetimes(usage)
    counts: _Counts = {}
    if plain is not None:
        counts["input_tokens"] = sum_of(plain, cached, written)
    if output is not None:
        counts["output_tokens"] = output
    thought = number(at(usage, "output_tokens_details", "thinking_tokens"))
    parts = {
        "cache_read_tokens": cached,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": written_1h,
        "reasoning_tokens": thought,
    }
    return counts | {name: part for name, part in parts.items() if part is not None}


def _lifetime(usage: Mapping[str, Any], lifetime: str) -> int | Decimal | None:
    return number(at(usage, "cache_creation", f"ephemeral_{lifetime}_input_tokens"))


def _lifetimes(usage: Mapping[str, Any]) -> int | Decimal:
    return sum_of(_lifetime(usage, "5m"), _lifetime(usage, "1h"))


def _untold_writes(usage: Mapping[str, Any]) -> int | Decimal:
    """Return by how much the writes of each lifetime miss the sum that stands beside them."""
    written, parts = number(usage.get("cache_creation_input_tokens")), _lifetimes(usage)
    return parts - written if written is not None and parts else 0


def _sum(counts: _Counts) -> int | Decimal:
    return counts.get("input_tokens", 0) + counts.get("output_tokens", 0)


def _iterations(usage: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the samplings that the top level leaves out: compactions and advisors (BetaIterationsUsage)."""
    found = usage.get("iterations")
    return [
        part
        for part in (found if isinstance(found, list) else ())
        if isinstance(part, Mapping) and part.get("type") in ("compaction", "advisor_message")
    ]


def _facts(message: Mapping[str, Any], usage: Mapping[str, Any], in_batch: bool) -> dict[str, Any]:
    tier, place = text_at(usage, "service_tier"), text_at(usage, "inference_geo")
    facts: dict[str, Any] = {
        "model": text_at(message, "model"),
        "request_id": text_at(message, "id"),
        "finish_reason": text_at(message, "stop_reason"),
        "service_tier": tier,
        "speed": text_at(usage, "speed"),
        "region": None if place == "not_available" else place,
    }
    if in_batch or tier == "batch":
        facts["processing"] = "batch"
    return facts


def _blocks(content: Any) -> Iterable[Mapping[str, Any]]:
    return (block for block in (content if isinstance(content, list) else ()) if isinstance(block, Mapping))


def _tool_calls(content: Any) -> int:
    return sum(
        block.get("type") in _TOOLS and block.get("name") != "web_search" for block in _blocks(content)
    )


def _texts(part: Any) -> Iterable[str | None]:
    return (text_at(part, name) for name in _TEXTS)
