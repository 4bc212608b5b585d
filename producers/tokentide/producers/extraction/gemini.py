"""Gemini, of the Gemini API and of Vertex AI: generateContent, embedContent, Imagen, Live.

`promptTokenCount` holds the cached content, the results of tools stand beside it; `candidatesTokenCount` and
`thoughtsTokenCount` are disjoint; the total is the sum of the four (google-genai 3.6,
GenerateContentResponseUsageMetadata). Counts of a stream are cumulative.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from tokentide.producers.extraction.camel import camel, camels
from tokentide.producers.extraction.reading import (
    Call,
    Reading,
    at,
    has_negative,
    mapping_at,
    moment,
    number,
    sum_of,
    text_at,
)
from tokentide.producers.extraction.said import Said, said_in, said_of

__all__ = ["fold", "looks_like", "paid_searches", "read", "requested", "tokens"]

# The Live API and embedContent have other names for the same.
_SAME = {
    "responseTokenCount": "candidatesTokenCount",
    "responseTokensDetails": "candidatesTokensDetails",
    "promptTokenDetails": "promptTokensDetails",
}
_KEPT = ("createTime", "modelVersion", "promptFeedback", "responseId")
_FORM = frozenset(
    {
        "candidates",
        "generatedImages",
        "modelVersion",
        "predictions",
        "promptFeedback",
        "serverContent",
        "usageMetadata",
    }
)
# genai-prices prices documents as pictures; video has no count of its own and stays plain input.
_PICTURES = ("IMAGE", "DOCUMENT")
_RESOURCE = re.compile(r"(?:.*/)?locations/(?P<region>[^/]+)/")

_Count = int | Decimal


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is an answer or a chunk of Gemini, Imagen or their embeddings, in either spelling."""
    answer = camel(answer)
    vectors = camels(answer.get("embeddings"))
    return (
        not _FORM.isdisjoint(answer)
        or any("statistics" in vector or "values" in vector for vector in vectors[:1])
        or "values" in mapping_at(answer, "embedding")
    )


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what an answer of Gemini says."""
    answer = camel(answer)
    raw = mapping_at(answer, "usageMetadata")
    usage = {_SAME.get(name, name): value for name, value in camel(raw).items()}
    facts = _facts(answer, usage, call)
    raw = raw or _statistics(answer)
    counts = tokens(usage) if usage else _embedded(raw)
    if "embedding" in answer or "embeddings" in answer or "predictions" in answer:
        facts["api_operation"] = "embeddings"
        counts["output_tokens"] = 0
    elif isinstance(answer.get("generatedImages"), list):
        facts["api_operation"] = "image"
        counts["images"] = sum(bool(each.get("image")) for each in camels(answer["generatedImages"]))
    queries = {*answer.get("_queries", ()), *_queries(answer)}
    counts["web_searches"] = paid_searches(facts["model"], len(queries))
    counts["tool_calls"] = answer.get("_calls", 0) + _calls(answer)
    said = said_of(answer).together(Said())
    _say(said, answer)
    if said and usage and usage.get("candidatesTokenCount") is None:
        # A stream that was cut: its first chunks count the prompt only.
        counts.pop("output_tokens", None)
    return Reading(
        counts=counts,
        facts=facts,
        raw=raw or None,
        total=number(usage.get("totalTokenCount")),
        is_doubtful=has_negative(usage),
        said=said,
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add a chunk of a stream: what it says replaces what was said before; queries and calls are gathered."""
    chunk = camel(chunk)
    usage = {**mapping_at(answer, "usageMetadata"), **_said(mapping_at(chunk, "usageMetadata"))}
    reason = _reason(chunk) or answer.get("finishReason")
    answer.update({name: chunk[name] for name in _KEPT if chunk.get(name) is not None})
    answer.update(
        usageMetadata=usage,
        finishReason=reason,
        _queries=[*answer.get("_queries", ()), *_queries(chunk)][:1000],
        _calls=answer.get("_calls", 0) + _calls(chunk),
    )
    _say(said_in(answer), chunk)


def tokens(usage: Mapping[str, Any]) -> dict[str, _Count]:
    """Return the inclusive counts of a usage object in the names of generateContent."""
    prompt, tools = number(usage.get("promptTokenCount")), number(usage.get("toolUsePromptTokenCount"))
    made, thought = number(usage.get("candidatesTokenCount")), number(usage.get("thoughtsTokenCount"))
    total, cached = number(usage.get("totalTokenCount")), number(usage.get("cachedContentTokenCount"))
    counts: dict[str, _Count] = {
        "cache_read_tokens": cached or 0,
        "reasoning_tokens": thought or 0,
        "input_audio_tokens": _of(usage, ("prompt", "toolUsePrompt"), ("AUDIO",)),
        "input_image_tokens": _of(usage, ("prompt", "toolUsePrompt"), _PICTURES),
        "cache_audio_read_tokens": _of(usage, ("cache",), ("AUDIO",)),
        "output_audio_tokens": _of(usage, ("candidates",), ("AUDIO",)),
        "output_image_tokens": _of(usage, ("candidates",), _PICTURES),
    }
    if prompt is not None or tools is not None:
        counts["input_tokens"] = sum_of(prompt, tools)
    # A zero is left out by JSON of protobuf; what the total leaves for the output then is zero as well.
    if made is not None or thought is not None or total is not None:
        counts["output_tokens"] = sum_of(made, thought)
    return counts


def _of(usage: Mapping[str, Any], kinds: tuple[str, ...], modalities: tuple[str, ...]) -> _Count:
    """Return the tokens of the modalities in the details of these kinds."""
    total: _Count = 0
    for kind in kinds:
        for detail in camels(usage.get(f"{kind}TokensDetails")):
            if (text_at(detail, "modality") or "").upper() in modalities:
                total += number(detail.get("tokenCount")) or number(detail.get("tokens")) or 0
    return total


def _statistics(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands beside each vector: the only usage that embeddings of Vertex AI report."""
    vectors = camels(answer.get("embeddings"))
    vectors = vectors or [camel(each.get("embeddings")) for each in camels(answer.get("predictions"))]
    found = [each["statistics"] for each in vectors if isinstance(each.get("statistics"), Mapping)]
    return {"statistics": found} if found else {}


def _embedded(raw: Mapping[str, Any]) -> dict[str, _Count]:
    told = [number(each.get("tokenCount")) for each in camels(raw.get("statistics"))]
    return {"input_tokens": sum((count or 0 for count in told), start=0)} if told else {}


def _facts(answer: Mapping[str, Any], usage: Mapping[str, Any], call: Call) -> dict[str, Any]:
    place = _RESOURCE.match(call.model or text_at(call.request, "model") or "")
    return {
        "model": text_at(answer, "modelVersion") or requested(call),
        "request_id": text_at(answer, "responseId"),
        "provider_created": moment(answer.get("createTime")),
        "finish_reason": _reason(answer),
        "service_tier": _tier(usage),
        "region": place["region"] if place else None,
    }


def _tier(usage: Mapping[str, Any]) -> str | None:
    """Return the tier that the call was served in; only Vertex AI says `trafficType`, only Gemini `serviceTier`."""
    said = text_at(usage, "serviceTier") or (text_at(usage, "trafficType") or "").removeprefix("ON_DEMAND_")
    tier = said.lower().removeprefix("service_tier_")
    return tier if tier and tier != "on_demand" and not tier.endswith("unspecified") else None


def _reason(answer: Mapping[str, Any]) -> str | None:
    """Return why the answer ended: as its first candidate says, or why the prompt was blocked."""
    reasons = [text_at(candidate, "finishReason") for candidate in camels(answer.get("candidates"))]
    return (
        next((reason for reason in reasons if reason), None)
        or text_at(answer, "finishReason")
        or text_at(camel(answer.get("promptFeedback")), "blockReason")
    )


def paid_searches(model: str, queries: _Count) -> _Count:
    """Return the searches to pay: Gemini 3 pays each query, older models the grounded prompt (Gemini API pricing)."""
    return min(queries, 1) if model.startswith(("gemini-1", "gemini-2")) else queries


def requested(call: Call) -> str:
    """Return the model that was asked for, without the path of its resource."""
    return (call.model or text_at(call.request, "model") or "").rpartition("/")[2]


def _queries(answer: Mapping[str, Any]) -> Iterable[int]:
    """Return a hash of each query that was searched for; empty ones are not billed (grounding guide)."""
    for candidate in camels(answer.get("candidates")):
        found = camel(candidate.get("groundingMetadata")).get("webSearchQueries")
        queries = found if isinstance(found, list) else ()
        yield from (hash(query) for query in queries if isinstance(query, str) and query)


def _calls(answer: Mapping[str, Any]) -> int:
    return sum(bool(part.get("functionCall")) for part in _parts(answer))


def _say(said: Said, answer: Mapping[str, Any]) -> None:
    """Add the texts of the candidates; a thought and the answer behind it are two."""
    for candidate in camels(answer.get("candidates")):
        for part in camels(at(candidate, "content", "parts")):
            said.add(text_at(part, "text"), (number(candidate.get("index")), bool(part.get("thought"))))


def _parts(answer: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    for candidate in camels(answer.get("candidates")):
        yield from camels(at(candidate, "content", "parts"))


def _said(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in value.items() if each is not None}
