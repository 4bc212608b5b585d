"""Embeddings in OpenAI's form: OpenAI, Azure, Mistral, Voyage, Together, and servers of one's own."""

from collections.abc import Mapping
from typing import Any

from tokentide.producers.extraction.openai_usage import cost_usd, tokens_of
from tokentide.producers.extraction.reading import Call, Reading, mapping_at, text_at

__all__ = ["fold", "looks_like", "read"]


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is a list of embeddings."""
    data = answer.get("data")
    return isinstance(data, list) and bool(data) and isinstance(data[0], Mapping) and "embedding" in data[0]


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Read a list of embeddings; all tokens are input."""
    usage = mapping_at(answer, "usage")
    tokens = tokens_of(usage, call.provider, "embeddings")
    counts = tokens.counts
    if "input_tokens" not in counts and tokens.total is not None:
        counts["input_tokens"] = tokens.total
    return Reading(
        counts=counts,
        facts={
            "model": text_at(answer, "model"),
            "request_id": text_at(answer, "id"),
            "provider_cost_usd": cost_usd(usage),
        },
        raw=usage if counts else None,
        total=tokens.total,
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Take the answer: embeddings are not streamed."""
    answer.update((key, chunk[key]) for key in ("id", "model", "usage") if chunk.get(key))
