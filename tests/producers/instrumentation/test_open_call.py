"""A call of LiteLLM that nobody tells the end of: it ends when its record is freed."""

import copy
import gc
import json
import pickle
from typing import Any

import pytest
from support.model_server import Recorder

from tokentide.producers.instrumentation.open_call import Chunks, Clock, OpenCall, open_calls
from tokentide.producers.observation import Observation

ANSWER = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}


def record_of(recorder: Recorder, **more: Any) -> dict[str, Any]:
    """Return a record as LiteLLM keeps one, with a call in it."""
    clock, request = Clock(), {"messages": "Say hello", "n": 1}
    observation = Observation(recorder, "openai", "chat", request, model="gpt-4o", monotonic=clock, **more)
    return {"model": "gpt-4o", "call": OpenCall(observation, clock, request)}


@pytest.fixture(autouse=True)
def _nothing_is_collected() -> Any:
    gc.disable()
    yield
    gc.enable()


def test_a_record_that_is_dropped_is_a_cancelled_call() -> None:
    recorder = Recorder()
    record = record_of(recorder)
    assert not recorder.events

    del record

    assert recorder.only()["status"] == "cancelled"


def test_a_call_whose_end_is_told_sends_nothing() -> None:
    recorder = Recorder()
    record = record_of(recorder)

    assert record["call"].ends()
    assert record["call"].ends()  # LiteLLM may tell it in two threads
    del record

    assert not recorder.events


def test_an_end_that_is_told_after_the_event_is_no_second_one() -> None:
    recorder = Recorder()
    call = record_of(recorder)["call"]

    call._leave(GeneratorExit())  # as at the end of the process

    assert not call.ends()
    assert recorder.only()["status"] == "cancelled"


def test_the_last_copy_of_a_record_ends_its_call() -> None:
    recorder = Recorder()
    record = record_of(recorder)
    copies = [dict(record), copy.copy(record), copy.deepcopy(record)]

    del record
    while copies:
        assert not recorder.events
        copies.pop()

    assert len(recorder.events) == 1


def test_a_record_can_be_written_down() -> None:
    record = record_of(Recorder())

    assert pickle.loads(pickle.dumps(record)) == {"model": "gpt-4o", "call": ""}
    assert "OpenCall" in json.dumps(record, default=str)
    assert list(open_calls(record)) == [record["call"]]


def test_an_answer_that_came_is_a_success() -> None:
    recorder = Recorder()
    record = record_of(recorder)

    record["call"].answered(json.dumps(ANSWER))
    del record

    event = recorder.only()
    assert event.get("status", "success") == "success"
    assert (event["input_tokens"], event["output_tokens"]) == (10, 5)
    assert event["event_id"] == f"openai/{ANSWER['id']}"


@pytest.mark.parametrize("told", [None, "", "the task was cancelled", object()])
def test_what_is_no_answer_is_none(told: object) -> None:
    recorder = Recorder()
    record = record_of(recorder)

    record["call"].answered(told)
    del record

    assert recorder.only()["status"] == "cancelled"


def test_of_streams_in_streams_the_one_with_most_chunks_is_read() -> None:
    recorder = Recorder()
    record = record_of(recorder)
    outer, inner = Chunks(), Chunks()

    record["call"].opened(inner)
    record["call"].opened(outer)
    for text in ("Hello, how are", " you today?"):
        delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        inner.append({"id": ANSWER["id"], "choices": [delta]})
    del record

    event = recorder.only()
    assert (event["status"], event["estimated"], event["stream"]) == ("cancelled", True, True)
    assert event["output_tokens"] > 4
    assert 0 <= event["ttft_ms"] <= event["latency_ms"]


def test_a_stream_that_makes_its_request_when_it_is_read_costs_nothing_before() -> None:
    recorder = Recorder()
    record = record_of(recorder)

    record["call"].opened(Chunks(), costs=False)
    del record

    assert recorder.only().get("input_tokens", 0) == 0


@pytest.mark.parametrize(("reason", "status"), [("STOP", "success"), (None, "cancelled")])
def test_lines_of_google(reason: str | None, status: str) -> None:
    recorder = Recorder()
    record = record_of(recorder)
    candidate = {"content": {"parts": [{"text": "Hello"}]}} | ({"finishReason": reason} if reason else {})
    counts = {"promptTokenCount": 8, "candidatesTokenCount": 3, "totalTokenCount": 11}
    chunks = Chunks()

    record["call"].opened(chunks)
    chunks.append(
        b"data: " + json.dumps({"candidates": [candidate], "usageMetadata": counts}).encode() + b"\n\n"
    )
    del record

    event = recorder.only()
    assert event.get("status", "success") == status
    assert (event["input_tokens"], event["output_tokens"]) == (8, 3)
