"""LM Studio's own API: chat. (Its other APIs are read as OpenAI's and Anthropic's.)

`total_output_tokens` holds the reasoning (REST API v1, chat). Of a stream, `chat.end` carries the whole answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tokentide.producers.extraction.reading import Call, Reading, mapping_at, numbers, text_at
from tokentide.producers.extraction.said import Said, said_in, said_of

__all__ = ["fold", "looks_like", "read"]

_EVENTS = ("chat.", "model_load.", "prompt_processing.", "reasoning.", "tool_call.", "message.")
_COUNTS = {
    "input_tokens": ("input_tokens",),
    "output_tokens": ("total_output_tokens",),
    "reasoning_tokens": ("reasoning_output_tokens",),
}
_KEPT = ("model_instance_id", "stats", "response_id")


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is an answer, or an event of its stream."""
    return "model_instance_id" in answer or (text_at(answer, "type") or "").startswith(_EVENTS)


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what an answer says."""
    stats = mapping_at(answer, "stats")
    counts = numbers(stats, _COUNTS)
    calls = answer.get("_tool_calls", 0) + sum(item.get("type") == "tool_call" for item in _items(answer))
    if calls:
        counts["tool_calls"] = calls
    return Reading(
        counts=counts,
        facts={
            "model": text_at(answer, "model_instance_id"),
            "request_id": text_at(answer, "response_id"),
        },
        raw=stats or None,
        said=said_of(answer) or Said(text_at(item, "content") for item in _items(answer)),
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add an event of a stream; its text goes to what was said."""
    kind = text_at(chunk, "type") or ""
    for source in (chunk, mapping_at(chunk, "result")):
        answer.update({name: source[name] for name in _KEPT if source.get(name)})
    if kind == "tool_call.start":
        answer["_tool_calls"] = answer.get("_tool_calls", 0) + 1
    elif kind.endswith(".delta"):
        said_in(answer).add(text_at(chunk, "content"), kind)


def _items(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    output = answer.get("output")
    yield from (item for item in (output if isinstance(output, list) else ()) if isinstance(item, Mapping))
