"""The usage object of OpenAI and of everybody who answers like OpenAI."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from tokentide.producers.extraction.reading import at, mapping_at, money, number, text_at

__all__ = ["Tokens", "cost_usd", "provider_of", "tier_of", "tokens_of", "total_with"]

_USD_PER_TICK = Decimal(1).scaleb(-10)

# By key of the usage object; all parts are inside their whole.
_COUNTS = {
    "prompt_tokens": "input_tokens",
    "input_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "output_tokens": "output_tokens",
    "prompt_cache_hit_tokens": "cache_read_tokens",  # DeepSeek
    "cached_tokens": "cache_read_tokens",  # Moonshot, Together
    "cached_prompt_text_tokens": "cache_read_tokens",  # xAI's own SDK
    "cache_read_input_tokens": "cache_read_tokens",  # LiteLLM's proxy, Databricks
    "cache_creation_input_tokens": "cache_write_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "prompt_audio_seconds": "audio_seconds",  # Mistral's Voxtral
    "num_search_queries": "web_searches",  # Perplexity
}
_INPUT_DETAILS = {
    "cached_tokens": "cache_read_tokens",
    "cache_read_input_tokens": "cache_read_tokens",  # Perplexity's agents
    "cache_write_tokens": "cache_write_tokens",
    "cache_creation_tokens": "cache_write_tokens",  # LiteLLM's proxy
    "audio_tokens": "input_audio_tokens",
    "image_tokens": "input_image_tokens",
}
_OUTPUT_DETAILS = {
    "reasoning_tokens": "reasoning_tokens",
    "audio_tokens": "output_audio_tokens",
    "image_tokens": "output_image_tokens",
}
# Chat, responses and embeddings, and audio (singular) name their details differently.
_DETAILS = {
    "prompt_tokens_details": _INPUT_DETAILS,
    "input_tokens_details": _INPUT_DETAILS,
    "input_token_details": _INPUT_DETAILS,
    "completion_tokens_details": _OUTPUT_DETAILS,
    "output_tokens_details": _OUTPUT_DETAILS,
    "output_token_details": _OUTPUT_DETAILS,
    "server_tool_use": {"web_search_requests": "web_searches"},  # OpenRouter, LiteLLM's proxy
}


class Tokens(NamedTuple):
    """The counts that a usage object reports, inclusive, and its own sum when that means input + output."""

    counts: dict[str, int | Decimal]
    total: int | Decimal | None


def tokens_of(usage: Mapping[str, Any], provider: str | None, api_operation: str | None) -> Tokens:
    """Return what the usage object says; no counts when it says nothing."""
    counts: dict[str, int | Decimal] = {}
    for key, names in _DETAILS.items():
        details = usage.get(key)
        if details and isinstance(details, dict):
            _collect(counts, details, names)
            heard = number(at(details, "cached_tokens_details", "audio_tokens"))
            if heard is not None:
                counts["cache_audio_read_tokens"] = heard
    _collect(counts, usage, _COUNTS)
    total = number(usage.get("total_tokens"))
    _fill_gaps(counts, usage, total)
    if "audio_seconds" in counts:
        total = None  # It holds tokens of sound too, which is paid by the second.
    reasoning = counts.get("reasoning_tokens")
    if not reasoning or reasoning < 0 or "output_tokens" not in counts:
        return Tokens(counts, total)
    said = counts.get("input_tokens", 0) + counts["output_tokens"]
    if provider == "perplexity" and api_operation == "chat":
        return _with_research(counts, usage, None if total == said else total)
    # xAI's chat reports reasoning beside the completion, all others inside it; the sum tells, if there is one.
    beside = api_operation == "chat" and provider == "x-ai" if total is None else total == said + reasoning
    if beside:
        counts["output_tokens"] += reasoning
    return Tokens(counts, total)


def total_with(tokens: Tokens, beside: Mapping[str, Any]) -> int | Decimal | None:
    """Return the sum of the tokens and of those `beside`, which another model used.

    They have another price, and no place in the event: so the sum is not that of its counts, which says so.
    """
    aside = number(beside.get("total_tokens")) or 0
    if aside <= 0:
        return tokens.total
    return tokens.counts.get("input_tokens", 0) + tokens.counts.get("output_tokens", 0) + aside


def _collect(counts: dict[str, int | Decimal], said: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Add the numbers that are named; one that is there already stays."""
    for key, value in said.items():
        name = names.get(key)
        if name is not None and name not in counts and (count := number(value)) is not None:
            counts[name] = count


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
    if citations is not None and citations > 0:
        counts["input_tokens"] = counts.get("input_tokens", 0) + citations
    return Tokens(counts, total)


def cost_usd(usage: Mapping[str, Any]) -> Decimal | None:
    """Return what the provider says that the call cost, in USD, exactly as it stands in the JSON."""
    ticks = money(usage.get("cost_in_usd_ticks"))
    if ticks is not None:
        return ticks * _USD_PER_TICK if abs(ticks) < Decimal(10) ** 24 else None
    cost = usage.get("cost")
    for said in (cost.get("total_cost") if isinstance(cost, dict) else cost, usage.get("estimated_cost")):
        exact = money(said)
        if exact is not None:
            return exact
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
