"""Gemini's Interactions API: the counts of generateContent under names of their own (google-genai 3.6, Usage).

Of a stream, `interaction.completed` carries the usage; `step.delta` the text.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokentide.producers.extraction import gemini
from tokentide.producers.extraction.camel import camel, camels
from tokentide.producers.extraction.reading import (
    Call,
    Reading,
    has_negative,
    mapping_at,
    moment,
    number,
    text_at,
)
from tokentide.producers.extraction.said import Said, said_in, said_of

__all__ = ["fold", "looks_like", "read"]

_NAMES = {
    "totalInputTokens": "promptTokenCount",
    "totalOutputTokens": "candidatesTokenCount",
    "totalCachedTokens": "cachedContentTokenCount",
    "totalThoughtTokens": "thoughtsTokenCount",
    "totalToolUseTokens": "toolUsePromptTokenCount",
    "totalTokens": "totalTokenCount",
    "inputTokensByModality": "promptTokensDetails",
    "outputTokensByModality": "candidatesTokensDetails",
    "cachedTokensByModality": "cacheTokensDetails",
    "toolUseTokensByModality": "toolUsePromptTokensDetails",
}
_KEPT = ("id", "model", "status", "created", "usage")


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is an Interaction or an event of its stream."""
    kind = text_at(answer, "event_type") or ""
    return (
        answer.get("object") == "interaction"
        or "totalInputTokens" in camel(answer.get("usage"))
        or kind.startswith(("interaction.", "step."))
    )


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what an Interaction says."""
    raw = mapping_at(answer, "usage")
    usage = {_NAMES.get(name, name): value for name, value in camel(raw).items()}
    counts = gemini.tokens(usage)
    model = text_at(answer, "model") or gemini.requested(call)
    searches = (
        number(each.get("count")) or 0
        for each in camels(usage.get("groundingToolCount"))
        if each.get("type") == "google_search"
    )
    counts["web_searches"] = gemini.paid_searches(model, sum(searches, start=0))
    return Reading(
        counts=counts,
        facts={
            "model": model,
            "request_id": text_at(answer, "id"),
            "provider_created": moment(answer.get("created")),
            "finish_reason": text_at(answer, "status"),
        },
        raw=raw or None,
        total=number(usage.get("totalTokenCount")),
        is_doubtful=has_negative(usage),
        said=said_of(answer).together(Said(_texts(answer.get("outputs")))),
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add an event of a stream; its text goes to what was said."""
    interaction = mapping_at(chunk, "interaction")
    answer.update({name: interaction[name] for name in _KEPT if interaction.get(name) is not None})
    said_in(answer).add(text_at(chunk, "delta", "text"), number(chunk.get("index")))


def _texts(blocks: Any) -> Iterator[str | None]:
    yield from (text_at(block, "text") for block in (blocks if isinstance(blocks, list) else ()))
