"""LiteLLM: answers in OpenAI's form, whoever gave them, and the payload of its callbacks.

Its counts are inclusive already, for every provider: Anthropic's cache is inside `prompt_tokens`, and what
xAI and Gemini count as reasoning is inside `completion_tokens` (litellm 1.106). Messages it hands on as they are.
"""

from collections.abc import Mapping
from typing import Any

from tokentide.producers.extraction import (
    anthropic,
    openai_audio,
    openai_chat,
    openai_embeddings,
    openai_images,
    openai_responses,
)
from tokentide.producers.extraction.openai_usage import cost_usd, tokens_of
from tokentide.producers.extraction.reading import Call, Reading, at, mapping_at, number, text_at
from tokentide.producers.extraction.said import said_of

__all__ = ["fold", "looks_like", "read"]

_FORMS = (
    (anthropic.looks_like, anthropic.read, "chat"),
    (openai_embeddings.looks_like, openai_embeddings.read, "embeddings"),
    (openai_images.looks_like, openai_images.read, "image"),
    (openai_audio.looks_like_transcription, openai_audio.read_transcription, "transcription"),
    (openai_responses.looks_like, openai_responses.read, "responses"),
    (lambda answer: "_calls" in answer, openai_responses.read, "responses"),  # what its fold made
)
# For answers that have no form of their own: a sound, a plain text.
_BY_OPERATION = {"speech": openai_audio.read_speech, "transcription": openai_audio.read_transcription}
# Who says itself what a call cost. For all others the `cost` in a usage object is LiteLLM's own price: it puts it
# into the last chunk of a stream (litellm 1.110, streaming_handler.py).
_TELL_COST = frozenset({"openrouter", "perplexity", "xai"})
_OPERATIONS = {
    "embedding": "embeddings",
    "image_generation": "image",
    "ocr": "ocr",
    "rerank": "rerank",
    "responses": "responses",
    "speech": "speech",
    "transcription": "transcription",
}


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether LiteLLM says so itself, in what it adds to an answer or in a StandardLoggingPayload."""
    return "hidden_params" in answer or ("call_type" in answer and "custom_llm_provider" in answer)


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what an answer or a StandardLoggingPayload of LiteLLM says."""
    if "call_type" in answer:
        reading, usage = _logged(answer), _usage_logged(answer)
    else:
        reading, usage = _answered(answer, call._replace(provider=None)), mapping_at(answer, "usage")
        reading.facts["provider_cost_usd"] = None
        if answer.get("_is_uncounted"):
            reading.counts.pop("output_tokens", None)
    written = number(
        at(usage, "prompt_tokens_details", "cache_creation_token_details", "ephemeral_1h_input_tokens")
    )
    if written is not None:
        reading.counts["cache_write_1h_tokens"] = written
    reading.facts |= _named(answer, call, text_at(reading.facts, "model"))
    if "call_type" not in answer and reading.facts.get("provider") in _TELL_COST:
        reading.facts["provider_cost_usd"] = cost_usd(usage)
    return reading


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add a chunk of a stream; its text goes to what was said."""
    provider = text_at(chunk, "hidden_params", "custom_llm_provider")
    if provider:
        answer["hidden_params"] = {"custom_llm_provider": provider}
    for looks_like, fold_chunk in (
        (openai_responses.looks_like, openai_responses.fold),
        (anthropic.looks_like, anthropic.fold),
    ):
        if looks_like(chunk):
            fold_chunk(answer, chunk)
            return
    before = said_of(answer).characters
    openai_chat.fold(answer, chunk)
    # Of Claude the first chunk counts the prompt: what is said behind it is counted at the end, if that is reached.
    counted = bool(mapping_at(chunk, "usage")) and said_of(answer).characters > before
    answer["_is_uncounted"] = "_finish_reason" not in answer and "usage" in answer and not counted


def _answered(answer: Mapping[str, Any], call: Call) -> Reading:
    for looks_like, read_answer, api_operation in _FORMS:
        if looks_like(answer):
            reading = read_answer(answer, call._replace(api_operation=api_operation))
            reading.facts["api_operation"] = api_operation
            return reading
    if "results" in answer:
        return _reranked(answer)
    return _BY_OPERATION.get(call.api_operation or "", openai_chat.read)(answer, call)


def _reranked(answer: Mapping[str, Any]) -> Reading:
    """Return what a rerank says: units of search, each of which is paid as a request, or tokens."""
    units = mapping_at(answer, "meta", "billed_units")
    total, searches = number(units.get("total_tokens")), number(units.get("search_units"))
    return Reading(
        counts={} if total is None else {"input_tokens": total},
        facts={"request_id": text_at(answer, "id"), "requests": searches, "api_operation": "rerank"},
        raw=units if total is not None or searches is not None else None,
    )


def _logged(payload: Mapping[str, Any]) -> Reading:
    """Return what a callback is told; `response_cost` is a price of LiteLLM's, no cost that a provider said."""
    usage = _usage_logged(payload)
    tokens = tokens_of(usage, None, None)
    kind = (text_at(payload, "call_type") or "").removeprefix("a")
    return Reading(
        counts=tokens.counts,
        facts={
            "model": text_at(payload, "model"),
            "request_id": text_at(payload, "id"),
            "api_operation": _OPERATIONS.get(kind, "chat"),
        },
        raw=usage if tokens.counts else None,
        total=tokens.total,
    )


def _usage_logged(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return mapping_at(payload, "metadata", "usage_object") or {
        name: payload[name] for name in names if payload.get(name) is not None
    }


def _named(answer: Mapping[str, Any], call: Call, model: str | None) -> dict[str, str]:
    """Return provider and model; a proxy says both in one, as in `anthropic/claude-haiku-4-5`."""
    hidden = mapping_at(answer, "hidden_params")
    provider = text_at(hidden, "custom_llm_provider") or text_at(answer, "custom_llm_provider")
    asked = call.model or text_at(call.request, "model") or ""
    model = model or asked
    if provider is None:
        full = model if "/" in model else asked
        provider, slash, rest = full.partition("/")
        if not slash:
            return {"model": model}
        model = rest if full == model else model
    return {"provider": provider, "model": model.removeprefix(f"{provider}/")}
