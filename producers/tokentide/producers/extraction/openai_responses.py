"""The Responses API of OpenAI, Azure and xAI, and the answers of the Realtime API."""

from collections.abc import Iterator, Mapping
from typing import Any

from tokentide.producers.extraction.openai_usage import cost_usd, tier_of, tokens_of, total_with
from tokentide.producers.extraction.reading import Call, Reading, at, mapping_at, moment, number, text_at
from tokentide.producers.extraction.said import Said, said_in, said_of

__all__ = ["fold", "looks_like", "read"]

_KEPT = (
    "id",
    "model",
    "created_at",
    "status",
    "incomplete_details",
    "status_details",
    "service_tier",
    "usage",
    "tool_usage",
)
# Which text of the output a delta continues.
_PLACE = ("output_index", "content_index", "summary_index")
_SEARCHES = ("web_search_calls", "x_search_calls")


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is a response or an event of its stream."""
    return answer.get("object") in ("response", "realtime.response") or (
        (text_at(answer, "type") or "").startswith("response.") and "choices" not in answer
    )


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Read a response, the event that holds one, or what `fold` made of the events."""
    if "_calls" not in answer:
        folded: dict[str, Any] = {}
        fold(folded, answer)
        answer = folded
    usage = mapping_at(answer, "usage")
    tokens = tokens_of(usage, call.provider, "responses")
    reported = bool(tokens.counts)
    drawn = mapping_at(answer, "tool_usage", "image_gen")
    kinds = [kind for kind, _ in answer.get("_calls", ())]
    searches = _searches(answer, usage, kinds.count("web_search_call"))
    if searches:
        tokens.counts["web_searches"] = searches
    tools = len(kinds) - kinds.count("web_search_call")
    if tools:
        tokens.counts["tool_calls"] = tools
    return Reading(
        counts=tokens.counts,
        facts={
            "model": text_at(answer, "model"),
            "request_id": text_at(answer, "id"),
            "provider_created": moment(answer.get("created_at")),
            "service_tier": tier_of(answer),
            "finish_reason": text_at(answer, "incomplete_details", "reason")
            or text_at(answer, "status_details", "reason")
            or text_at(answer, "status"),
            "provider_cost_usd": cost_usd(usage),
        },
        raw=_raw(usage, drawn) if reported else None,
        total=total_with(tokens, drawn),
        said=max(said_of(answer), said_of(answer, "_output"), key=lambda each: each.characters),
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add an event, or a whole response."""
    calls = answer.setdefault("_calls", {})
    response = mapping_at(chunk, "response") or (chunk if "type" not in chunk else {})
    for key in _KEPT:
        if response.get(key):
            answer[key] = response[key]
    items = [*_items(response.get("output")), *_items([chunk.get("item")])]
    for place, item in enumerate(items):
        kind = text_at(item, "type") or ""
        # Opening a page or looking for words in it is no search.
        if kind.endswith("_call") and text_at(item, "action", "type") not in ("open_page", "find_in_page"):
            calls[kind, text_at(item, "id") or text_at(item, "call_id") or str(place)] = True
    if response.get("output"):
        answer["_output"] = Said(text for item in _items(response["output"]) for text in _texts(item))
    delta = text_at(chunk, "delta")
    if delta and not (text_at(chunk, "type") or "").endswith("audio.delta"):
        said_in(answer).add(delta, tuple(number(chunk.get(name)) for name in _PLACE))


def _raw(usage: Mapping[str, Any], drawn: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**usage, "tool_usage": {"image_gen": drawn}} if number(drawn.get("total_tokens")) else usage


def _items(output: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(output, list):
        yield from (item for item in output if isinstance(item, Mapping))


def _searches(answer: Mapping[str, Any], usage: Mapping[str, Any], calls: int) -> int | Any:
    """Return the searches that are billed: as OpenAI says, as xAI says, else as the answer shows them."""
    requests = number(at(answer, "tool_usage", "web_search", "num_requests"))
    if requests is not None:
        return requests
    details = mapping_at(usage, "server_side_tool_usage_details")
    counts = [count for name in _SEARCHES if (count := number(details.get(name))) is not None]
    return sum(counts) if counts else calls


def _texts(item: Mapping[str, Any]) -> Iterator[str | None]:
    """Return what the model wrote in an item of the output."""
    for key in ("name", "arguments", "input", "text", "refusal"):
        yield text_at(item, key)
    for key in ("content", "summary"):
        for part in _items(item.get(key)):
            yield from _texts(part)
