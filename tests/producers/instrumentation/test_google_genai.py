"""google-genai against a local server: one event for each request, whatever way it ends."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from support.model_server import Answer, ModelServer, Recorder, json_answer, sse_answer

from tokentide.producers.instrumentation import instrument, uninstrument

MODEL = "gemini-2.5-flash"
GENERATE = f"/v1/models/{MODEL}:generateContent"
STREAM = f"/v1/models/{MODEL}:streamGenerateContent"
# https://ai.google.dev/api/generate-content#UsageMetadata: thoughts stand beside candidates, the cache is inside.
USAGE = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 30,
    "totalTokenCount": 150,
}
COUNTS = {"input_tokens": 100, "cache_read_tokens": 40, "output_tokens": 50, "reasoning_tokens": 30}


def said(text: str, finished: bool = True, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if finished:
        candidate["finishReason"] = "STOP"
    return {"candidates": [candidate], "modelVersion": MODEL, "responseId": "r-1", **more}


# google-genai 3.6 derives from aiohttp's session, which aiohttp discourages.
derives_a_session = pytest.mark.filterwarnings(
    "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
)

CHUNKS = [
    said("Hel", finished=False, usageMetadata={"promptTokenCount": 100, "totalTokenCount": 100}),
    said("lo", usageMetadata=USAGE),
]


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[genai.Client]:
    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=server.url))
    yield instrument(client, recorder, service="shop")
    client.close()


def chosen(event: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return {name: event.get(name) for name in names}


def test_an_answer(server: ModelServer, recorder: Recorder, client: genai.Client) -> None:
    server.answer(GENERATE, json_answer(said("Hello", usageMetadata=USAGE)))

    answer = client.models.generate_content(model=MODEL, contents="Say hello")

    assert answer.text == "Hello"
    expected = {
        **COUNTS,
        "provider": "google",
        "model": MODEL,
        "api_operation": "chat",
        "event_id": "google/r-1",
        "service": "shop",
        "stream": False,
    }
    event = recorder.only()
    assert chosen(event, expected) == expected
    assert event["metadata"]["usage_status"] == "exact"
    assert "status" not in event


def test_a_stream(server: ModelServer, recorder: Recorder, client: genai.Client) -> None:
    server.answer(STREAM, sse_answer(CHUNKS, done=False))

    text = "".join(
        chunk.text or "" for chunk in client.models.generate_content_stream(model=MODEL, contents="Say hello")
    )

    assert text == "Hello"
    expected = {**COUNTS, "stream": True, "event_id": "google/r-1"}
    assert chosen(recorder.only(), expected) == expected
    assert 0 < recorder.only()["ttft_ms"] <= recorder.only()["latency_ms"]


def test_a_stream_that_is_left_early_is_cancelled(
    server: ModelServer, recorder: Recorder, client: genai.Client
) -> None:
    release = threading.Event()
    server.answer(STREAM, sse_answer(CHUNKS, done=False, release=release))

    for _ in client.models.generate_content_stream(model=MODEL, contents="Say hello"):
        break

    event = recorder.only()
    assert (event["status"], event["input_tokens"], event["stream"]) == ("cancelled", 100, True)


def test_a_stream_that_nobody_reads_calls_nobody(
    server: ModelServer, recorder: Recorder, client: genai.Client
) -> None:
    client.models.generate_content_stream(model=MODEL, contents="Say hello")

    assert server.requests == []
    assert recorder.events == []


def test_a_refused_stream_costs_nothing(
    server: ModelServer, recorder: Recorder, client: genai.Client
) -> None:
    server.answer(STREAM, refusal())

    with pytest.raises(errors.ClientError):
        list(client.models.generate_content_stream(model=MODEL, contents="Say hello"))

    event = recorder.only()
    assert (event["status"], event["error_type"]) == ("error", "ClientError")
    assert event.get("input_tokens", 0) == 0


def refusal() -> Answer:
    return json_answer(
        {"error": {"code": 400, "message": "no such thing", "status": "INVALID_ARGUMENT"}}, status=400
    )


def test_an_error(server: ModelServer, recorder: Recorder, client: genai.Client) -> None:
    server.answer(GENERATE, refusal())

    with pytest.raises(errors.ClientError):
        client.models.generate_content(model=MODEL, contents="Say hello")

    event = recorder.only()
    assert (event["status"], event["error_type"], event["model"]) == ("error", "ClientError", MODEL)
    assert "no such thing" not in str(event)


def test_functions_that_the_client_runs_are_requests_of_their_own(
    server: ModelServer, recorder: Recorder, client: genai.Client
) -> None:
    def weather(city: str) -> str:
        """Return the weather."""
        return f"sun in {city}"

    asked = said("", usageMetadata=USAGE, responseId="r-0")
    asked["candidates"][0]["content"]["parts"] = [
        {"functionCall": {"name": "weather", "args": {"city": "Rome"}}}
    ]
    server.answer(GENERATE, json_answer(asked), json_answer(said("Sunny", usageMetadata=USAGE)))

    chat = client.chats.create(model=MODEL, config=types.GenerateContentConfig(tools=[weather]))
    answer = chat.send_message("How is it in Rome?")

    assert answer.text == "Sunny"
    assert [event["event_id"] for event in recorder.events] == ["google/r-0", "google/r-1"]


def test_embeddings(server: ModelServer, recorder: Recorder, client: genai.Client) -> None:
    server.answer(
        "/v1/models/gemini-embedding-001:batchEmbedContents",
        json_answer({"embeddings": [{"values": [0.1, 0.2]}]}),
    )

    client.models.embed_content(model="gemini-embedding-001", contents="Twelve chars")

    event = recorder.only()
    assert (event["api_operation"], event["input_tokens"]) == ("embeddings", 3)
    assert event["estimated"]


@derives_a_session
def test_asynchronous_calls(server: ModelServer, recorder: Recorder, client: genai.Client) -> None:
    server.answer(GENERATE, json_answer(said("Hello", usageMetadata=USAGE)))
    server.answer(STREAM, sse_answer(CHUNKS, done=False))

    async def calls() -> None:
        await client.aio.models.generate_content(model=MODEL, contents="Say hello")
        async for _ in await client.aio.models.generate_content_stream(model=MODEL, contents="Say hello"):
            pass
        await client.aio.aclose()

    asyncio.run(calls())

    assert [(event["stream"], event["output_tokens"]) for event in recorder.events] == [
        (False, 50),
        (True, 50),
    ]


@derives_a_session
def test_a_part_of_an_instrumented_client_is_metered_once(
    server: ModelServer, recorder: Recorder, client: genai.Client
) -> None:
    server.answer(GENERATE, json_answer(said("Hello", usageMetadata=USAGE)))

    async def call() -> None:
        await instrument(client.aio, recorder).models.generate_content(model=MODEL, contents="Say hello")
        await client.aio.aclose()

    asyncio.run(call())

    assert recorder.only()["output_tokens"] == 50


@derives_a_session
def test_a_task_that_is_cancelled(server: ModelServer, recorder: Recorder, client: genai.Client) -> None:
    release = threading.Event()
    server.answer(STREAM, sse_answer(CHUNKS, done=False, release=release))

    async def cancelled() -> None:
        first = asyncio.Event()

        async def read() -> None:
            async for _ in await client.aio.models.generate_content_stream(model=MODEL, contents="Say hello"):
                first.set()

        task = asyncio.create_task(read())
        await first.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.aio.aclose()

    asyncio.run(cancelled())

    event = recorder.only()
    assert (event["status"], event["error_type"]) == ("cancelled", "CancelledError")


@derives_a_session
def test_an_asynchronous_stream_that_is_left_early(
    server: ModelServer, recorder: Recorder, client: genai.Client
) -> None:
    server.answer(STREAM, sse_answer(CHUNKS, done=False, release=threading.Event()))

    async def left() -> None:
        async for _ in await client.aio.models.generate_content_stream(model=MODEL, contents="Say hello"):
            break
        await client.aio.aclose()

    asyncio.run(left())

    assert recorder.only()["status"] == "cancelled"


def test_uninstrument_gives_the_client_back(
    server: ModelServer, recorder: Recorder, client: genai.Client
) -> None:
    server.answer(GENERATE, json_answer(said("Hello", usageMetadata=USAGE)))

    uninstrument(client).models.generate_content(model=MODEL, contents="Say hello")

    assert recorder.events == []
    assert "_generate_content" not in vars(client.models)
