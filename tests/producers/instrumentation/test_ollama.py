"""ollama against a local server: one event for each call, whatever way it ends."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import ollama
import pytest
from support.model_server import Answer, ModelServer, Recorder, json_answer

from tokentide.producers.instrumentation import instrument

# https://github.com/ollama/ollama/blob/main/docs/api.md#generate-a-chat-completion
LAST: dict[str, Any] = {
    "model": "llama3.2",
    "created_at": "2026-03-01T12:00:00Z",
    "done_reason": "stop",
    "done": True,
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342546000,
    "eval_count": 282,
    "eval_duration": 4535599000,
}
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]


def lines(*chunks: dict[str, Any], **more: Any) -> Answer:
    pieces = [json.dumps(chunk).encode() + b"\n" for chunk in chunks]
    return Answer(pieces, content_type="application/x-ndjson", **more)


def chunk(text: str, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "model": "llama3.2",
        "created_at": "2026-03-01T12:00:00Z",
        "message": message,
        "done": False,
        **more,
    }


STREAM = (chunk("Because"), chunk(" of"), chunk("", **LAST))


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as client:
        yield instrument(client, recorder)


def counted(event: dict[str, Any]) -> tuple[Any, ...]:
    names = ("provider", "model", "api_operation", "stream", "input_tokens", "output_tokens")
    return tuple(event.get(name, 0) for name in names)


def test_a_chat(server: ModelServer, recorder: Recorder, client: ollama.Client) -> None:
    server.answer("/api/chat", json_answer(chunk("Because of the air.", **LAST)))

    answer = client.chat(model="llama3.2", messages=MESSAGES)

    assert answer.message.content == "Because of the air."
    assert counted(recorder.only()) == ("ollama", "llama3.2", "chat", False, 26, 282)


def test_a_streamed_chat(server: ModelServer, recorder: Recorder, client: ollama.Client) -> None:
    server.answer("/api/chat", lines(*STREAM))

    text = "".join(
        part.message.content or "" for part in client.chat(model="llama3.2", messages=MESSAGES, stream=True)
    )

    assert text == "Because of"
    assert counted(recorder.only()) == ("ollama", "llama3.2", "chat", True, 26, 282)
    assert recorder.only()["ttft_ms"] > 0


def test_the_time_before_a_stream_is_read_is_no_latency(
    server: ModelServer, recorder: Recorder, client: ollama.Client
) -> None:
    """The request is sent when the first chunk is asked for."""
    server.answer("/api/chat", lines(*STREAM))
    stream = client.chat(model="llama3.2", messages=MESSAGES, stream=True)

    asked, started = datetime.now(UTC), time.perf_counter()
    list(stream)
    took_ms = (time.perf_counter() - started) * 1000

    assert recorder.only()["timestamp"] >= asked
    assert recorder.only()["ttft_ms"] <= recorder.only()["latency_ms"] <= took_ms


def test_a_chat_that_is_left_early(server: ModelServer, recorder: Recorder, client: ollama.Client) -> None:
    server.answer("/api/chat", lines(*STREAM, release=threading.Event()))

    for _ in client.chat(model="llama3.2", messages=MESSAGES, stream=True):
        break

    event = recorder.only()
    assert (event["status"], event["estimated"]) == ("cancelled", True)
    assert event["output_tokens"] == 2  # the 7 characters of "Because"


def test_a_chat_left_at_its_last_chunk_is_complete(
    server: ModelServer, recorder: Recorder, client: ollama.Client
) -> None:
    server.answer("/api/chat", lines(*STREAM))

    for part in client.chat(model="llama3.2", messages=MESSAGES, stream=True):
        if part.done:
            break

    assert "status" not in recorder.only()
    assert counted(recorder.only())[-2:] == (26, 282)


def test_generate_and_embed(server: ModelServer, recorder: Recorder, client: ollama.Client) -> None:
    server.answer("/api/generate", json_answer({**LAST, "response": "Because."}))
    server.answer(
        "/api/embed", json_answer({"model": "minilm", "embeddings": [[0.1, 0.2]], "prompt_eval_count": 8})
    )

    client.generate(model="llama3.2", prompt="Why?")
    client.embed(model="minilm", input="Why is the sky blue?")

    assert [counted(event) for event in recorder.events] == [
        ("ollama", "llama3.2", "chat", False, 26, 282),
        ("ollama", "minilm", "embeddings", False, 8, 0),
    ]


def test_calls_of_no_model_give_no_event(
    server: ModelServer, recorder: Recorder, client: ollama.Client
) -> None:
    server.answer("/api/show", json_answer({"details": {"family": "llama"}, "model_info": {}}))

    client.show("llama3.2")

    assert recorder.events == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_error(server: ModelServer, recorder: Recorder, client: ollama.Client, stream: bool) -> None:
    server.answer("/api/chat", json_answer({"error": "model 'llama9' not found"}, status=404))

    def call() -> None:
        if stream:
            list(client.chat(model="llama9", messages=MESSAGES, stream=True))
        else:
            client.chat(model="llama9", messages=MESSAGES)

    with pytest.raises(ollama.ResponseError):
        call()

    event = recorder.only()
    assert (event["status"], event["error_type"], event["error_message"]) == (
        "error",
        "ResponseError",
        "HTTP 404",
    )
    assert counted(event) == ("ollama", "llama9", "chat", stream, 0, 0)


def test_the_asynchronous_client(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/api/chat", json_answer(chunk("Because.", **LAST)), lines(*STREAM))

    async def calls() -> None:
        async with ollama.AsyncClient(host=server.url) as client:
            instrument(client, recorder)
            await client.chat(model="llama3.2", messages=MESSAGES)
            async for _ in await client.chat(model="llama3.2", messages=MESSAGES, stream=True):
                pass

    asyncio.run(calls())

    assert [counted(event)[3:] for event in recorder.events] == [(False, 26, 282), (True, 26, 282)]


def test_a_task_that_is_cancelled(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/api/chat", lines(*STREAM, release=threading.Event()))

    async def cancelled() -> None:
        first = asyncio.Event()
        async with ollama.AsyncClient(host=server.url) as client:
            instrument(client, recorder)

            async def read() -> None:
                async for _ in await client.chat(model="llama3.2", messages=MESSAGES, stream=True):
                    first.set()

            task = asyncio.create_task(read())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())

    assert recorder.only()["status"] == "cancelled"


def test_an_asynchronous_chat_that_is_left_early(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/api/chat", lines(*STREAM, release=threading.Event()))

    async def left() -> None:
        async with ollama.AsyncClient(host=server.url) as client:
            instrument(client, recorder)
            async for _ in await client.chat(model="llama3.2", messages=MESSAGES, stream=True):
                break

    asyncio.run(left())

    assert (recorder.only()["status"], recorder.only()["output_tokens"]) == ("cancelled", 2)


def test_another_version_is_reported_once(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    class Client(ollama.Client):
        _request: Any = None

    with Client() as client:
        instrument(client, recorder)
        instrument(client, recorder)

    (line,) = [line for line in caplog.records if "NOT metered" in line.message]
    assert line.levelname == "WARNING"
    assert "_request" in line.message
