"""cohere against a local server: one event for each call, whatever way it ends."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import pytest
from support.model_server import ModelServer, Recorder, json_answer, sse_answer

from tokentide.producers.instrumentation import instrument

MODEL = "command-a-03-2025"
MESSAGES: Any = [{"role": "user", "content": "Say hello"}]
# https://docs.cohere.com/reference/chat: `tokens` holds what is not billed.
USAGE = {
    "billed_units": {"input_tokens": 5, "output_tokens": 7},
    "tokens": {"input_tokens": 71, "output_tokens": 9},
}
ANSWER = {
    "id": "c14c80c3",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
    "usage": USAGE,
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message-start", "id": "c14c80c3", "delta": {"message": {"role": "assistant"}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello"}}}},
    {"type": "message-end", "id": "c14c80c3", "delta": {"finish_reason": "COMPLETE", "usage": USAGE}},
]


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[cohere.ClientV2]:
    with httpx.Client() as http:
        yield instrument(cohere.ClientV2("k", base_url=server.url, httpx_client=http), recorder)


def counted(event: dict[str, Any]) -> tuple[Any, ...]:
    names = ("event_id", "model", "api_operation", "stream", "input_tokens", "output_tokens")
    return tuple(event.get(name, 0) for name in names)


def complete(stream: bool) -> tuple[Any, ...]:
    return ("cohere/c14c80c3", MODEL, "chat", stream, 5, 7)


def test_a_chat(server: ModelServer, recorder: Recorder, client: cohere.ClientV2) -> None:
    server.answer("/v2/chat", json_answer(ANSWER))

    answer = client.chat(model=MODEL, messages=MESSAGES)

    assert answer.message.content[0].text == "Hello"  # type: ignore[index, union-attr]
    assert counted(recorder.only()) == complete(stream=False)


def test_a_raw_response(server: ModelServer, recorder: Recorder, client: cohere.ClientV2) -> None:
    server.answer("/v2/chat", json_answer(ANSWER))

    response = client.with_raw_response.chat(model=MODEL, messages=MESSAGES)

    assert response.status_code == 200
    assert counted(recorder.only()) == complete(stream=False)


def test_a_streamed_chat(server: ModelServer, recorder: Recorder, client: cohere.ClientV2) -> None:
    server.answer("/v2/chat", sse_answer(EVENTS, named=True, done=False))

    kinds = [event.type for event in client.chat_stream(model=MODEL, messages=MESSAGES)]

    assert kinds == ["message-start", "content-delta", "message-end"]
    assert counted(recorder.only()) == complete(stream=True)
    assert "status" not in recorder.only()


def test_a_stream_that_is_left_early(
    server: ModelServer, recorder: Recorder, client: cohere.ClientV2
) -> None:
    server.answer("/v2/chat", sse_answer(EVENTS, named=True, done=False, release=threading.Event()))

    for event in client.chat_stream(model=MODEL, messages=MESSAGES):
        if event.type == "content-delta":
            break

    event_ = recorder.only()
    assert (event_["status"], event_["estimated"], event_["output_tokens"]) == ("cancelled", True, 2)


def test_a_raw_stream_that_nobody_reads_is_a_call(
    server: ModelServer, recorder: Recorder, client: cohere.ClientV2
) -> None:
    server.answer("/v2/chat", sse_answer(EVENTS, named=True, done=False))

    with client.with_raw_response.chat_stream(model=MODEL, messages=MESSAGES):
        pass

    assert recorder.only()["status"] == "cancelled"


@pytest.mark.parametrize("stream", [False, True])
def test_an_error(server: ModelServer, recorder: Recorder, client: cohere.ClientV2, stream: bool) -> None:
    server.answer("/v2/chat", json_answer({"message": "invalid request"}, status=400))

    def call() -> None:
        if stream:
            list(client.chat_stream(model=MODEL, messages=MESSAGES))
        else:
            client.chat(model=MODEL, messages=MESSAGES)

    with pytest.raises(cohere.BadRequestError):
        call()

    event = recorder.only()
    assert (event["status"], event["error_type"], event["error_message"]) == (
        "error",
        "BadRequestError",
        "HTTP 400",
    )
    assert event.get("input_tokens", 0) == 0


def test_embed_and_rerank(server: ModelServer, recorder: Recorder, client: cohere.ClientV2) -> None:
    server.answer(
        "/v2/embed",
        json_answer(
            {
                "id": "e-1",
                "response_type": "embeddings_by_type",
                "embeddings": {"float": [[0.1, 0.2]]},
                "texts": ["hello"],
                "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 2}},
            }
        ),
    )
    server.answer(
        "/v2/rerank",
        json_answer(
            {
                "id": "r-1",
                "results": [{"index": 0, "relevance_score": 0.9}],
                "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
            }
        ),
    )

    client.embed(model="embed-v4.0", input_type="search_query", embedding_types=["float"], texts=["hello"])
    client.rerank(model="rerank-v3.5", query="hello", documents=["hello", "world"])

    assert [counted(event) for event in recorder.events] == [
        ("cohere/e-1", "embed-v4.0", "embeddings", False, 2, 0),
        ("cohere/r-1", "rerank-v3.5", "rerank", False, 0, 0),
    ]


def test_the_older_client_and_the_newer_one_inside_it(server: ModelServer, recorder: Recorder) -> None:
    billed = {"api_version": {"version": "1"}, "billed_units": {"input_tokens": 4, "output_tokens": 6}}
    server.answer(
        "/v1/chat",
        json_answer({"text": "Hello", "generation_id": "g-1", "response_id": "old-1", "meta": billed}),
    )
    server.answer("/v2/chat", json_answer(ANSWER))

    with httpx.Client() as http:
        client = instrument(cohere.Client("k", base_url=server.url, httpx_client=http), recorder)
        client.chat(model="command-r", message="Say hello")
        client.v2.chat(model=MODEL, messages=MESSAGES)

    assert [counted(event)[1:] for event in recorder.events] == [
        ("command-r", "chat", False, 4, 6),
        (MODEL, "chat", False, 5, 7),
    ]


def test_the_asynchronous_client(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v2/chat", json_answer(ANSWER), sse_answer(EVENTS, named=True, done=False))

    async def calls() -> None:
        async with httpx.AsyncClient() as http:
            client = instrument(cohere.AsyncClientV2("k", base_url=server.url, httpx_client=http), recorder)
            await client.chat(model=MODEL, messages=MESSAGES)
            async for _ in client.chat_stream(model=MODEL, messages=MESSAGES):
                pass

    asyncio.run(calls())

    assert [counted(event) for event in recorder.events] == [complete(stream=False), complete(stream=True)]


def test_a_task_that_is_cancelled(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v2/chat", sse_answer(EVENTS, named=True, done=False, release=threading.Event()))

    async def cancelled() -> None:
        first = asyncio.Event()
        async with httpx.AsyncClient() as http:
            client = instrument(cohere.AsyncClientV2("k", base_url=server.url, httpx_client=http), recorder)

            async def read() -> None:
                async for _ in client.chat_stream(model=MODEL, messages=MESSAGES):
                    first.set()

            task = asyncio.create_task(read())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancelled())

    assert recorder.only()["status"] == "cancelled"
