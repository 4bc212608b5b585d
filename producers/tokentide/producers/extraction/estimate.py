"""Tokens estimated from text, for answers that do not report them; whoever uses them says so."""

import json
from collections.abc import Mapping
from typing import Any

from tokentide.producers.extraction.plain import plain
from tokentide.producers.extraction.said import Said, tokens_of_characters

__all__ = ["estimated_input_tokens", "input_tokens_by_length"]

_DEPTH = 16
# Where a request's text stands, in the bodies of all providers.
_TEXT = (
    "messages",
    "input",
    "inputs",
    "prompt",
    "suffix",
    "system",
    "instructions",
    "contents",
    "systemInstruction",
    "system_instruction",
    "system_prompt",
    "texts",
    "query",
    "documents",
    "message",
    "chat_history",
    "preamble",
)
_SCHEMAS = ("tools", "functions", "toolConfig", "response_format")
# Not text for the model: names, kinds, and pictures or sounds as URL or base64.
_NO_TEXT = frozenset(
    {
        "b64_json",
        "base64",
        "bytes",
        "cache_control",
        "cachePoint",
        "data",
        "detail",
        "document_url",
        "encrypted_content",
        "file_data",
        "file_id",
        "file_uri",
        "file_url",
        "fileUri",
        "id",
        "image_url",
        "images",
        "input_audio",
        "media_type",
        "mime_type",
        "mimeType",
        "role",
        "signature",
        "tool_call_id",
        "tool_use_id",
        "type",
        "url",
    }
)


def estimated_input_tokens(request: Mapping[str, Any], model: str | None) -> int:
    """Return about how many tokens the texts and tools of the request are for the model.

    Pictures and sounds are left aside, and what a provider puts around the messages.
    """
    tokens, texts = _read(request)
    return tokens + Said(texts).tokens(model)


def input_tokens_by_length(request: Mapping[str, Any]) -> int:
    """Return the same by the length of the texts alone, 4 characters a token: for who asks before a call."""
    tokens, texts = _read(request)
    return tokens + tokens_of_characters(sum(map(len, texts)))


def _read(request: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Return the tokens that stand in the request as numbers, and its texts for the model, the tools as JSON."""
    body = plain({name: request[name] for name in (*_TEXT, *_SCHEMAS) if name in request})
    if not isinstance(body, dict):
        return 0, []
    texts = [_as_json(body[name]) for name in _SCHEMAS if body.get(name)]
    for name in _TEXT:
        _collect(body.get(name), texts, _DEPTH)
    return sum(_tokens_in(body[name]) for name in _TEXT if name in body), texts


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except ValueError:  # a number of thousands of digits
        return ""


def _collect(value: Any, texts: list[str], depth: int) -> None:
    """Add the texts for a model that a message, a part of one, or a list of them holds."""
    if isinstance(value, str):
        texts.append(value)
    elif depth <= 0:
        return
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if key not in _NO_TEXT:
                _collect(each, texts, depth - 1)
    elif isinstance(value, list | tuple):
        for each in value:
            _collect(each, texts, depth - 1)


def _tokens_in(value: Any) -> int:
    """Return how many tokens stand in the value as numbers, as embeddings and completions accept them."""
    if not isinstance(value, list):
        return 0
    if value and isinstance(value[0], list):
        return sum(_tokens_in(each) for each in value)
    return sum(isinstance(each, int) for each in value)
