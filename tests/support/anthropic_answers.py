"""Answers of Anthropic's API, as its reference documents them (docs.anthropic.com/en/api/messages)."""

from typing import Any

__all__ = ["CALL", "COUNTS", "MESSAGE", "message_events"]

CALL: dict[str, Any] = {
    "model": "claude-opus-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hello"}],
}

USAGE: dict[str, Any] = {
    "input_tokens": 25,
    "cache_creation_input_tokens": 40,
    "cache_read_input_tokens": 100,
    "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 10},
    "output_tokens": 15,
    "service_tier": "standard",
}
MESSAGE: dict[str, Any] = {
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5-20260801",
    "content": [{"type": "text", "text": "Hello!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}


COUNTS = {
    # Anthropic counts apart what is read from and written to the cache: 25 + 100 + 40.
    "input_tokens": 165,
    "cache_read_tokens": 100,
    "cache_write_tokens": 40,
    "cache_write_1h_tokens": 10,
    "output_tokens": 15,
}
"""What an event says of that usage."""


def message_events() -> list[dict[str, Any]]:
    """Return the events of a streamed message; the counts of `message_delta` are cumulative."""
    begun = MESSAGE | {"content": [], "stop_reason": None, "usage": USAGE | {"output_tokens": 1}}
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "!"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 15},
        },
        {"type": "message_stop"},
    ]
