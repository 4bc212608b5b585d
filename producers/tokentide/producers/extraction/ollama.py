"""Ollama's own API: chat, generate, embed. (Its OpenAI-compatible API is read as OpenAI's.)

`prompt_eval_count` is the whole prompt and holds what was cached of it (llama_server.go); before Ollama 0.3 it
was missing on a cache hit (ollama/ollama#2068), and is estimated then. Counts stand in the `done` chunk only.
"""

from collections.abc import Mapping
from typing import Any

from tokentide.producers.extraction.reading import Call, Reading, at, moment, numbers, text_at
from tokentide.producers.extraction.said import Said, said_in, said_of

__all__ = ["fold", "looks_like", "read"]

_COUNTS = {
    "input_tokens": ("prompt_eval_count",),
    "output_tokens": ("eval_count",),
    "cache_read_tokens": ("prompt_eval_cached_count",),
}
_USAGE = (
    "prompt_eval_count",
    "prompt_eval_cached_count",
    "eval_count",
    "total_duration",
    "load_duration",
    "prompt_eval_duration",
    "eval_duration",
)
_TEXTS = (("response",), ("thinking",), ("message", "content"), ("message", "thinking"))
_FACTS = ("model", "created_at", "done", "done_reason")


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether this is an answer of Ollama, or a chunk of one."""
    return isinstance(answer.get("done"), bool) or "prompt_eval_count" in answer or "load_duration" in answer


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Return what an answer of Ollama says."""
    counts = numbers(answer, _COUNTS)
    facts = {
        "model": text_at(answer, "model"),
        "provider_created": moment(answer.get("created_at")),
        "finish_reason": text_at(answer, "done_reason"),
    }
    if "embeddings" in answer or "embedding" in answer:
        facts["api_operation"] = "embeddings"
        counts["output_tokens"] = 0
    elif answer.get("done_reason") in (
        "load",
        "unload",
    ):  # an empty prompt, to move a model into or out of memory
        counts = {"input_tokens": 0, "output_tokens": 0}
    tool_calls = at(answer, "message", "tool_calls")
    counts["tool_calls"] = answer.get("_tool_calls", 0) + (
        len(tool_calls) if isinstance(tool_calls, list) else 0
    )
    reported = answer.get("done") or "prompt_eval_count" in answer
    return Reading(
        counts=counts,
        facts=facts,
        raw={name: answer[name] for name in _USAGE if name in answer} if reported else None,
        said=said_of(answer).together(Said(text_at(answer, *path) for path in _TEXTS)),
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add a chunk of a stream; its text goes to what was said."""
    answer.update({name: chunk[name] for name in (*_USAGE, *_FACTS) if chunk.get(name) is not None})
    tool_calls = at(chunk, "message", "tool_calls")
    answer["_tool_calls"] = answer.get("_tool_calls", 0) + (
        len(tool_calls) if isinstance(tool_calls, list) else 0
    )
    said = said_in(answer)
    for path in _TEXTS:
        said.add(text_at(chunk, *path), path)
