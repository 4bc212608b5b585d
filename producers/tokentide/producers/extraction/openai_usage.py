"""The usage object of OpenAI and of everybody who answers like OpenAI."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from tokentide.producers.extraction.reading import at, mapping_at, money, number, text_at

__all__ = ["Tokens", "cost_usd", "provider_of", "tier_of", "tokens_of"]

_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_USD_PER_TICK = Decimal(1).scaleb(-10)

# Where each count may stand; the first that is there counts. All parts are inside their whole.
_PATHS: dict[str, tuple[tuple[str, ...], ...]] = {
    "input_tokens": (("prompt_tokens",), ("input_tokens",)),
    "output_tokens": (("completion_tokens",), ("output_tokens",)),
    "cache_read_tokens": (
        *((details, "cached_tokens") for details in _INPUT_DETAILS),
        ("prompt_cache_hit_tokens",),  # DeepSeek
        ("cached_tokens",),  # Moonshot, Together
        ("cached_prompt_text_tokens",),  # xAI's own SDK
        ("cache_read_input_tokens",),  # LiteLLM's proxy, Databricks
        ("input_tokens_details", "cache_read_input_tokens"),  # Perplexity's agents
    ),
    "cache_write_tokens": (
        *((details, "cache_write_tokens") for details in _INPUT_DETAILS),
        ("prompt_tokens_details", "cache_creation_tokens"),  # LiteLLM's proxy
        ("cache_creation_input_tokens",),
    ),
    "reasoning_tokens": (
        *((details, "reasoning_tokens") for details in _OUTPUT_DETAILS),
        ("reasoning_tokens",),
    ),
    "input_audio_tokens": tuple((details, "audio_tokens") for details in _INPUT_DETAILS),
    "output_audio_tokens": tuple((details, "audio_tokens") for details in _OUTPUT_DETAILS),
    "input_image_tokens": tuple((details, "image_tokens") for details in _INPUT_DETAILS),
    "output_image_tokens": tuple((details, "image_tokens") for details in _OUTPUT_DETAILS),
    "cache_audio_read_tokens": tuple(
        (details, "cached_tokens_details", "audio_tokens") for details in _INPUT_DETAILS
    ),
    "audio_seconds": (("prompt_audio_seconds",),),  # Mistral's Voxtral
    "web_searches": (
        ("server_tool_use", "web_search_requests"),  # OpenRouter, LiteLLM's proxy
        ("num_search_queries",),  # Perplexity
    ),
}


class Tokens(NamedTuple):
    """The counts that a usage object reports, inclusive, and its own sum when that means input + output."""

    counts: dict[str, int | Decimal]
    total: int | Decimal | None


def tokens_of(usage: Mapping[str, Any], provider: str | None, api_operation: str | None) -> Tokens:
    """Return what the usage object says; no counts when it says nothing."""
    counts: dict[str, int | Decimal] = {}
    for name, paths in _PATHS.items():
        found = next((count for path in paths if (count := number(at(usage, *path))) is not None), None)
        if found is not None:
            counts[name] = found
    total = number(usage.get("total_tokens"))
    _fill_gaps(counts, usage, total)
    reasoning = counts.get("reasoning_tokens")
    if not reasoning or "output_tokens" not in counts:
        return Tokens(counts, total)
    said = counts.get("input_tokens", 0) + counts["output_tokens"]
    if provider == "perplexity" and api_operation == "chat":
        return _with_research(counts, usage, None if total == said else total)
    # xAI's chat reports reasoning beside the completion, all others inside it; the sum tells, if there is one.
    beside = api_operation == "chat" and provider == "x-ai" if total is None else total == said + reasoning
    if beside:
        counts["output_tokens"] += reasoning
    return Tokens(counts, total)


def _fill_gaps(
    counts: dict[str, int | Decimal], usage: Mapping[str, Any], total: int | Decimal | None
) -> None:
    """Add what follows from the other numbers."""
    if "input_tokens" not in counts:
        miss = number(usage.get("prompt_cache_miss_tokens"))
        if miss is not None:
            counts["input_tokens"] = miss + counts.get("cache_read_tokens", 0)
    if total is None:
        return
    for missing, other in (("output_tokens", "input_tokens"), ("input_tokens", "output_tokens")):
        if missing not in counts and other in counts and total >= counts[other]:
            counts[missing] = total - counts[other]


def _with_research(
    counts: dict[str, int | Decimal], usage: Mapping[str, Any], total: int | Decimal | None
) -> Tokens:
    """Add what Perplexity's deep research bills beside prompt and completion, and beside their sum.

    Reasoning is output. Citations are texts that the model reads, and cost what input costs.
    """
    counts["output_tokens"] += counts["reasoning_tokens"]
    citations = number(usage.get("citation_tokens"))
    if citations is not None:
        counts["input_tokens"] = counts.get("input_tokens", 0) + citations
    return Tokens(counts, total)


def cost_usd(usage: Mapping[str, Any]) -> Decimal | None:
    """Return what the provider says that the call cost, in USD, exactly as it stands in the JSON."""
    ticks = money(usage.get("cost_in_usd_ticks"))
    if ticks is not None:
        return ticks * _USD_PER_TICK if abs(ticks) < Decimal(10) ** 24 else None
    for path in (("cost",), ("cost", "total_cost"), ("estimated_cost",)):
        cost = money(at(usage, *path))
        if cost is not None:
            return cost
    return None


def tier_of(answer: Mapping[str, Any]) -> str | None:
    """Return the service tier that served the call; "auto" is what was asked for, not what was given."""
    tier = text_at(answer, "service_tier")
    return None if tier == "auto" else tier


def provider_of(answer: Mapping[str, Any]) -> str | None:
    """Return who answered, by what only this provider's answers have; None when nothing gives it away."""
    usage = mapping_at(answer, "usage")
    for provider, is_there in (
        ("groq", "x_groq" in answer or "queue_time" in usage),
        ("cerebras", "time_info" in answer),
        ("x-ai", "cost_in_usd_ticks" in usage or "num_sources_used" in usage),
        ("deepseek", "prompt_cache_hit_tokens" in usage),
        ("perplexity", "search_context_size" in usage or "citation_tokens" in usage),
        ("openrouter", (text_at(answer, "id") or "").startswith("gen-") and "provider" in answer),
        ("lmstudio", "model_info" in answer and "runtime" in answer),
        ("azure", "prompt_filter_results" in answer),
    ):
        if is_there:
            return provider
    return None
