"""Cohere: chat, embed and rerank, of version 2 and of version 1.

`billed_units` is what Cohere bills; `tokens` also holds the template that Cohere puts around a prompt and does
not bill (pricing guide). Both are floats. No answer names its model.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

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
        "message-start",
        "message-end",
        "content-start",
        "content-delta",
        "content-end",
        "tool-plan-delta",
        "tool-call-start",
        "tool-call-delta",
        "tool-call-end",
        "citation-start",
        "citation-end",
        "stream-start",
        "stream-end",
        "text-generation",
    }
)

_Count = int | Decimal


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is an answer of Cohere, or an event of a stream of one."""
    usage, meta = mapping_at(answer, "usage"), mapping_at(answer, "meta")
    return (
        "billed_units" in usage
        or "billed_units" in meta
        or "api_version" in meta
        or text_at(answer, "type") in _EVENTS
        or text_at(answer, "event_type") in _EVENTS
    )


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what an answer of Cohere says."""
    raw = mapping_at(answer, "usage") or mapping_at(answer, "meta")
    units = mapping_at(raw, "billed_units") or mapping_at(raw, "tokens")
    searches = number(units.get("search_units"))
    counts, facts = _counts(units, raw), _facts(answer)
    if "embeddings" in answer:
        facts["api_operation"] = "embeddings"
        counts.setdefault("output_tokens", 0)
    elif "results" in answer:
        facts["api_operation"] = "rerank"
    # A rerank is paid by the search unit, a query with up to 100 documents: each is a request.
    if searches:
        facts["requests"] = searches
    tool_calls = at(answer, "message", "tool_calls") or answer.get("tool_calls")
    counts["tool_calls"] = answer.get("_tool_calls", 0) + _number_of(tool_calls)
    return Reading(
        counts=counts,
        facts=facts,
        raw=raw if units else None,
        is_doubtful=has_negative(units),
        said=said_of(answer).together(Said([*_texts(answer.get("message")), text_at(answer, "text")])),
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add an event of a stream: version 2 says its `type`, version 1 its `event_type`."""
    kind = chunk.get("type") or chunk.get("event_type")
    if kind == "message-start":
        answer["id"] = chunk.get("id")
    elif kind == "message-end":
        answer.update({name: at(chunk, "delta", name) for name in ("finish_reason", "usage")})
    elif kind == "stream-end":
        ended = mapping_at(chunk, "response")
        names = ("id", "response_id", "generation_id", "finish_reason", "meta")
        answer.update({name: ended.get(name) for name in names})
        answer["_tool_calls"] = _number_of(ended.get("tool_calls"))
    elif kind == "tool-call-start":
        answer["_tool_calls"] = answer.get("_tool_calls", 0) + 1
    said = said_in(answer)
    for text in _texts(at(chunk, "delta", "message")):
        said.add(text, (kind, number(chunk.get("index"))))
    if kind == "text-generation":
        said.add(text_at(chunk, "text"))


def _counts(units: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, _Count]:
    text, pictures = number(units.get("text_tokens")), number(units.get("image_tokens"))
    if text is None:
        text = number(units.get("input_tokens"))
    output, cached = number(units.get("output_tokens")), number(raw.get("cached_tokens"))
    counts: dict[str, _Count] = {}
    if text is not None or pictures is not None:
        counts["input_tokens"] = sum_of(text, pictures)
        counts["input_image_tokens"] = pictures or 0
        # What was cached of the template is not in what is billed, so a count beyond it says nothing here.
        if cached is not None and cached <= counts["input_tokens"]:
            counts["cache_read_tokens"] = cached
    elif images := number(units.get("images")):  # embed-v3: paid by the picture, of which it counts no tokens
        counts["images"] = images
    if output is not None:
        counts["output_tokens"] = output
    return counts


def _number_of(tool_calls: Any) -> int:
    return len(tool_calls) if isinstance(tool_calls, list) else 0


def _facts(answer: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "response_id", "generation_id")
    return {
        "request_id": next((found for name in names if (found := text_at(answer, name))), None),
        "finish_reason": text_at(answer, "finish_reason"),
    }


def _texts(message: Any) -> list[str | None]:
    """Return the texts of a message, or of the part of one that a stream's event holds."""
    content = at(message, "content")
    blocks = content if isinstance(content, list) else [content]
    texts = [text_at(block, name) for block in blocks for name in ("text", "thinking")]
    return [*texts, text_at(message, "tool_plan"), text_at(message, "tool_calls", "function", "arguments")]
