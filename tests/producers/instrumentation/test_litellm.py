"""LiteLLM's callback, with LiteLLM calling a local server: one event for each call."""

from typing import Any

import pytest
from support.litellm_told import ID, Events, chunk, events_told
from support.model_server import ModelServer, json_answer, sse_answer

# LiteLLM and what it imports take 3 s.
pytestmark = pytest.mark.slow

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 30},
}
COUNTS = {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40, "reasoning_tokens": 30}
ANSWER = {
    "id": ID,
    "object": "chat.completion",
    "created": 1772366400,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}


CHUNKS = [chunk("Hel"), chunk("lo"), chunk("", "stop"), {**chunk(""), "choices": [], "usage": USAGE}]


EMBEDDED = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}


@pytest.fixture(scope="module")
def told() -> Events:
    """The events of each kind of call in `support/litellm_calls.py`."""
    server = ModelServer()
    for kind in ("answer", "answer_async"):
        server.answer(f"/{kind}/chat/completions", json_answer(ANSWER))
    for kind in ("stream", "stream_async"):
        server.answer(f"/{kind}/chat/completions", sse_answer(CHUNKS))
    refusal = json_answer({"error": {"message": "Say hello is wrong"}}, status=400)
    server.answer("/error/chat/completions", refusal)
    server.answer("/embeddings/embeddings", json_answer(EMBEDDED))
    return events_told("support.litellm_calls", server)


def chosen(event: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return {name: event.get(name) for name in names}


def test_an_answer(told: dict[str, list[dict[str, Any]]]) -> None:
    (event,) = told["answer"]

    expected = {
        **COUNTS,
        "provider": "openai",
        "api_operation": "chat",
        "event_id": f"openai/{ID}",
        "source": "litellm",
        "service": "shop",
        "user_id": "ada",
        "stream": False,
    }
    assert chosen(event, expected) == expected
    assert event["model"].startswith("gpt-4o")
    assert event["latency_ms"] > 0


@pytest.mark.parametrize("kind", ["stream", "stream_async"])
def test_a_stream(told: dict[str, list[dict[str, Any]]], kind: str) -> None:
    (event,) = told[kind]

    assert chosen(event, {**COUNTS, "stream": True}) == {**COUNTS, "stream": True}
    assert event["ttft_ms"] >= 0


def test_an_error(told: dict[str, list[dict[str, Any]]]) -> None:
    (event,) = told["error"]

    assert (event["status"], event["error_type"], event["error_message"]) == (
        "error",
        "BadRequestError",
        "HTTP 400",
    )
    assert event.get("input_tokens", 0) == 0
    assert "Say hello" not in str(event)


def test_an_asynchronous_answer(told: dict[str, list[dict[str, Any]]]) -> None:
    (event,) = told["answer_async"]

    assert chosen(event, COUNTS) == COUNTS


def test_embeddings(told: dict[str, list[dict[str, Any]]]) -> None:
    (event,) = told["embeddings"]

    assert (event["api_operation"], event["model"], event["input_tokens"]) == (
        "embeddings",
        "text-embedding-3-small",
        8,
    )
