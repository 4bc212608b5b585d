"""Tokens estimated from text, for answers that do not report them; whoever uses them says so."""

import json
from collections.abc import Mapping
from typing import Any

from tokentide.producers.extraction.plain import plain

__all__ = ["characters_of", "estimated_input_tokens", "tokens_of_characters"]

_CHARACTERS_PER_TOKEN = 4
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
        "bytes",
        "cache_control",
        "cachePoint",
        "data",
        "detail",
        "encrypted_content",
        "file_data",
        "file_id",
        "file_uri",
        "fileUri",
        "id",
        "image_url",
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


def tokens_of_characters(characters: int) -> int:
    """Return the tokens that so much English text takes, about: a quarter of its characters, rounded up."""
    return -(-characters // _CHARACTERS_PER_TOKEN)


def estimated_input_tokens(request: Mapping[str, Any]) -> int:
    """Return about how many tokens the texts and tools of the request take; pictures and sounds are left aside."""
    body = plain({name: request[name] for name in (*_TEXT, *_SCHEMAS) if name in request})
    if not isinstance(body, dict):
        return 0
    characters = sum(len(json.dumps(body[name], default=str)) for name in _SCHEMAS if body.get(name))
    tokens = sum(_tokens_in(body[name]) for name in _TEXT if name in body)
    characters += sum(characters_of(body[name]) for name in _TEXT if name in body)
    return tokens + tokens_of_characters(characters)


def characters_of(value: Any, depth: int = _DEPTH) -> int:
    """Return how many characters of text for a model a message, a part of one, or a list of them holds."""
    if isinstance(value, str):
        return len(value)
    if depth <= 0:
        return 0
    if isinstance(value, Mapping):
        return sum(characters_of(each, depth - 1) for key, each in value.items() if key not in _NO_TEXT)
    if isinstance(value, list | tuple):
        return sum(characters_of(each, depth - 1) for each in value)
    return 0


def _tokens_in(value: Any) -> int:
    """Return how many tokens stand in the value as numbers, as embeddings and completions accept them."""
    if not isinstance(value, list):
        return 0
    if value and isinstance(value[0], list):
        return sum(_tokens_in(each) for each in value)
    return sum(isinstance(each, int) for each in value)
