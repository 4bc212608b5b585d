"""LiteLLM's callback: calls that are left or cancelled, of which LiteLLM tells nothing, give one event each."""

import threading
from typing import Any

import pytest
from support.litellm_told import ID, Events, chunk, events_told
from support.model_server import ModelServer, json_answer, sse_answer

# LiteLLM and what it imports take 3 s.
pytestmark = pytest.mark.slow

RESPONSE_ID = "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b"
LEFT = {"status": "cancelled", "estimated": True, "stream": True}


CHUNKS = [chunk("Hello, "), chunk("how are you"), chunk(" today?"), chunk("", "stop")]
WRITTEN = [
    {
        "id": "cmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "text_completion",
        "created": 1772366400,
        "model": "gpt-3.5-turbo-instruct",
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": reason}],
    }
    for text, reason in (("Hello, ", None), ("how are you", None), (" today?", None), ("", "stop"))
]
RESPONSE = {
    "id": RESPONSE_ID,
    "object": "response",
    "created_at": 1741476542,
    "status": "in_progress",
    "model": "gpt-4.1-2025-04-14",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "temperature": 1.0,
    "top_p": 1.0,
    "metadata": {},
}
PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
EVENTS = [
    {"type": "response.created", "response": RESPONSE, "sequence_number": 0},
    {"type": "response.output_text.delta", **PLACE, "delta": "Hello, how ", "sequence_number": 1},
    {"type": "response.output_text.delta", **PLACE, "delta": "are you?", "sequence_number": 2},
    {"type": "response.completed", "response": {**RESPONSE, "status": "completed"}, "sequence_number": 3},
]
MESSAGE: dict[str, Any] = {
    "id": "msg_01X",
    "type": "message",
    "role": "assistant",
    "content": [],
    "model": "claude-sonnet-4-5-20250929",
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 1},
}
CLAUDE: list[dict[str, Any]] = [
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    *(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in ("Hello, how are you", " today?", " I am fine.")
    ),
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}},
    {"type": "message_stop"},
]
ANSWER = {
    **chunk(""),
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
}


def lay_down(server: ModelServer) -> None:
    """Lay down an answer for each kind of call; those that are cancelled wait for it."""
    waits = threading.Event()
    for kind in ("left", "finished", "closed", "unread", "routed", "unlogged", "instrumented", "twice"):
        server.answer(f"/{kind}/chat/completions", sse_answer(CHUNKS))
    server.answer("/left_async/chat/completions", sse_answer(CHUNKS))
    server.answer("/broken/chat/completions", sse_answer(CHUNKS[:2], done=False, breaks_off=True))
    refusal = json_answer({"error": {"message": "no"}}, status=500)
    server.answer("/routed_bad/chat/completions", refusal)
    server.answer("/claude/v1/messages", sse_answer(CLAUDE, named=True, done=False))
    for kind in ("written", "written_async"):
        server.answer(f"/{kind}/completions", sse_answer(WRITTEN))
    for kind in ("responses", "responses_async"):
        server.answer(f"/{kind}/responses", sse_answer(EVENTS, named=True, done=False))
    server.answer("/cancelled/chat/completions", json_answer(ANSWER, release=waits))
    server.answer("/cancelled_stream/chat/completions", sse_answer(CHUNKS[:3], done=False, release=waits))
    server.answer("/cancelled_responses/responses", sse_answer(EVENTS, named=True, done=False, release=waits))
    server.answer("/cancelled_embedding/embeddings", json_answer({}, release=waits))
    server.answer("/last/chat/completions", json_answer(ANSWER))


@pytest.fixture(scope="module")
def told() -> Events:
    """The events of each kind of call in `support/litellm_left.py`."""
    server = ModelServer()
    lay_down(server)
    return events_told("support.litellm_left", server)


def only(events: list[dict[str, Any]], expected: dict[str, Any]) -> dict[str, Any]:
    (event,) = events
    assert {name: event.get(name) for name in expected} == expected
    return event


def test_a_stream_that_is_left(told: Events) -> None:
    event = only(told["left"], {**LEFT, "error_type": "GeneratorExit", "event_id": f"openai/{ID}"})

    assert (event["user_id"], event["team_id"], event["tags"]) == ("ada", "red", {"blue": ""})
    assert (event["source"], event["service"], event["api_operation"]) == ("litellm", "shop", "chat")
    assert event["model"].startswith("gpt-4o")
    assert event["input_tokens"] > 0
    assert event["output_tokens"] > 1
    assert 0 < event["ttft_ms"] <= event["latency_ms"] < 60_000


@pytest.mark.parametrize("kind", ["closed", "left_async", "cancelled_stream", "unlogged", "open_at_exit"])
def test_a_stream_that_ends_early(told: Events, kind: str) -> None:
    event = only(told[kind], {**LEFT, "event_id": f"openai/{ID}"})

    assert min(event["input_tokens"], event["output_tokens"]) > 0


def test_a_stream_left_when_the_model_has_ended_is_a_success(told: Events) -> None:
    event = only(told["finished"], {"estimated": True, "event_id": f"openai/{ID}"})

    assert event.get("status", "success") == "success"


def test_a_stream_that_nobody_reads_costs_its_prompt(told: Events) -> None:
    event = only(told["unread"], LEFT)

    assert event["input_tokens"] > 0
    assert event.get("output_tokens", 0) == 0


def test_a_stream_that_breaks_off_has_the_counts_of_what_came(told: Events) -> None:
    event = only(told["broken"], {"status": "error", "estimated": True, "stream": True})

    assert min(event["input_tokens"], event["output_tokens"]) > 0


def test_a_fallback_that_is_left(told: Events) -> None:
    assert [event["status"] for event in told["routed"]] == ["error", "cancelled"]


def test_an_instrumented_client_below_gives_the_same_event_id(told: Events) -> None:
    (event,), (below,) = told["instrumented"], told["of_client"]

    assert event["event_id"] == below["event_id"] == f"openai/{ID}"


def test_each_callback_has_its_event(told: Events) -> None:
    only(told["twice"], LEFT)
    only(told["of_twin"], LEFT)


def test_counts_that_were_told_before_the_text_are_not_taken_for_all_of_it(told: Events) -> None:
    event = only(told["claude"], {**LEFT, "input_tokens": 30, "cache_read_tokens": 5})

    assert event["output_tokens"] > 1


@pytest.mark.parametrize("kind", ["responses", "responses_async", "cancelled_responses"])
def test_a_stream_of_the_responses_api(told: Events, kind: str) -> None:
    event = only(told[kind], {**LEFT, "api_operation": "responses"})

    assert event["event_id"].startswith("openai/")
    assert min(event["input_tokens"], event["output_tokens"]) > 0


@pytest.mark.parametrize("kind", ["written", "written_async"])
def test_a_text_that_is_left(told: Events, kind: str) -> None:
    event = only(told[kind], LEFT)

    assert min(event["input_tokens"], event["output_tokens"]) > 0


@pytest.mark.parametrize(
    ("kind", "operation"), [("cancelled", "chat"), ("cancelled_embedding", "embeddings")]
)
def test_a_call_cancelled_before_anything_came_counts_nothing(
    told: Events, kind: str, operation: str
) -> None:
    event = only(
        told[kind], {"status": "cancelled", "error_type": "CancelledError", "api_operation": operation}
    )

    assert event.get("input_tokens", 0) == event.get("output_tokens", 0) == 0
    assert event["latency_ms"] > 100


def test_an_answer_that_is_told_of_late_is_no_cancellation(told: Events) -> None:
    event = only(told["last"], {"input_tokens": 100, "output_tokens": 50})

    assert event.get("status", "success") == "success"
