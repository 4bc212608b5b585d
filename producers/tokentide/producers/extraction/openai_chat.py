"""Chat and legacy completions of OpenAI, and of the many servers that speak like it."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from tokentide.producers.extraction.openai_usage import cost_usd, tier_of, tokens_of
from tokentide.producers.extraction.reading import Call, Reading, mapping_at, moment, number, text_at
from tokentide.producers.extraction.said import SAID, Said, said_in, said_of
from tokentide.producers.usage import names_a_call

__all__ = ["fold", "looks_like", "read"]

_KEPT_FIRST = ("id", "model", "created", "object", "provider", "time_info", "model_info", "runtime")
_KEPT_LAST = ("system_fingerprint", "service_tier", "x_groq", "prompt_filter_results")


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is a completion or a chunk of one."""
    choices = answer.get("choices")
    return isinstance(choices, list) and (
        not choices or any(key in each for each in _choices(answer) for key in ("message", "delta", "text"))
    )


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Read a completion, or what `fold` made of its chunks."""
    usage = mapping_at(answer, "usage") or mapping_at(answer, "x_groq", "usage")
    tokens = tokens_of(usage, call.provider, call.api_operation)
    folded = {**answer, SAID: said_of(answer).together(Said())}
    for choice in _choices(answer):
        _fold_choice(folded, choice)
    calls = folded.get("_called")
    if calls:
        tokens.counts["tool_calls"] = len(calls)
    request_id = text_at(answer, "id")
    return Reading(
        counts=tokens.counts,
        facts={
            "model": text_at(answer, "model"),
            "request_id": request_id if request_id and names_a_call(request_id) else None,
            "provider_created": moment(answer.get("created")),
            "system_fingerprint": text_at(answer, "system_fingerprint"),
            "service_tier": tier_of(answer) or tier_of(usage),
            "finish_reason": folded.get("_finish_reason"),
            "provider_cost_usd": cost_usd(usage),
        },
        raw=usage if tokens.counts.keys() - {"tool_calls"} else None,
        total=tokens.total,
        said=said_of(folded),
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add a chunk: its texts go to what was said."""
    for key in _KEPT_FIRST:
        if chunk.get(key) and not answer.get(key):
            answer[key] = chunk[key]
    for key in _KEPT_LAST:
        if chunk.get(key):
            answer[key] = chunk[key]
    if mapping_at(chunk, "usage"):
        answer["usage"] = chunk["usage"]
    for choice in _choices(chunk):
        _fold_choice(answer, choice)


def _choices(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    choices = answer.get("choices")
    if isinstance(choices, list):
        yield from (choice for choice in choices if isinstance(choice, dict))


def _fold_choice(answer: dict[str, Any], choice: Mapping[str, Any]) -> None:
    message = mapping_at(choice, "message") or mapping_at(choice, "delta")
    index = number(choice.get("index"))
    said = said_in(answer)
    for field, value in (("text", choice.get("text")), *_written(message)):
        if value:
            _say(said, value, (index, field))
    reason = text_at(choice, "finish_reason")
    if reason and "_finish_reason" not in answer:
        answer["_finish_reason"] = reason
    tool_calls = message.get("tool_calls")
    for place, each in enumerate(tool_calls if isinstance(tool_calls, list) else ()):
        if isinstance(each, dict):
            of = number(each.get("index"))
            _say(said, each.get("function"), (index, "tool_calls", place if of is None else of))
            name = (index, of, text_at(each, "id") or place)
            if text_at(each, "id") or text_at(each, "function", "name"):
                answer["_called"] = answer.get("_called", frozenset()) | {name}
    if text_at(message, "function_call", "name"):
        answer["_called"] = answer.get("_called", frozenset()) | {("function_call", index)}


def _written(message: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return what the model wrote, by name, its reasoning as far as it is shown and its calls included."""
    return (
        ("content", message.get("content")),
        ("reasoning", message.get("reasoning_content") or message.get("reasoning")),
        ("refusal", message.get("refusal")),
        ("function_call", message.get("function_call")),
        ("audio", mapping_at(message, "audio").get("transcript")),
    )


def _say(said: Said, value: Any, part: Hashable) -> None:
    if isinstance(value, str):
        said.add(value, part)
    elif isinstance(value, dict):
        for key in ("name", "arguments", "text", "thinking"):
            _say(said, value.get(key), part)
    elif isinstance(value, list):
        for each in value:
            _say(said, each, part)
