"""mistralai against a local server: one event for each call, whatever way it ends."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from support.model_server import ModelServer, Recorder, json_answer, sse_answer

from tokentide.producers.instrumentation import instrument

CHAT = "/v1/chat/completions"
MESSAGES: Any = [{"role": "user", "content": "Say hello"}]
USAGE = {"prompt_tokens": 16, "completion_tokens": 34, "total_tokens": 50}
# https://docs.mistral.ai/api/#tag/chat
ANSWER = {
    "id": "cmpl-e5cc70bb",
    "object": "chat.completion",
    "model": "mistral-small-latest",
    "created": 1772366400,
    "usage": USAGE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}


def chunk(text: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "cmpl-e5cc70bb",
        "object": "chat.completion.chunk",
        "model": "mistral-small-latest",
        "created": 1772366400,
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}],
        **more,
    }


CHUNKS = [chunk("Hel"), chunk("lo", "stop", usage=USAGE)]


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[Mistral]:
    with Mistral(api_key="k", server_url=server.url) as client:
        yield instrument(client, recorder)


def counted(event: dict[str, Any]) -> tuple[Any, ...]:
    names = ("event_id", "model", "api_operation", "stream", "input_tokens", "output_tokens")
    return tuple(event.get(name, 0) for name in names)


def complete(stream: bool) -> tuple[Any, ...]:
    return ("mistral/cmpl-e5cc70bb", "mistral-small-latest", "chat", stream, 16, 34)


def test_a_chat(server: ModelServer, recorder: Recorder, client: Mistral) -> None:
    server.answer(CHAT, json_answer(ANSWER))

    answer = client.chat.complete(model="mistral-small-latest", messages=MESSAGES)

    assert answer.choices[0].message is not None
    assert answer.choices[0].message.content == "Hello"
    assert counted(recorder.only()) == complete(stream=False)


def test_a_streamed_chat(server: ModelServer, recorder: Recorder, client: Mistral) -> None:
    server.answer(CHAT, sse_answer(CHUNKS))

    with client.chat.stream(model="mistral-small-latest", messages=MESSAGES) as stream:
        text = "".join(str(event.data.choices[0].delta.content) for event in stream)

    assert text == "Hello"
    assert counted(recorder.only()) == complete(stream=True)
    assert "status" not in recorder.only()


def test_a_stream_that_is_left_early(server: ModelServer, recorder: Recorder, client: Mistral) -> None:
    server.answer(CHAT, sse_answer(CHUNKS, release=threading.Event()))

    with client.chat.stream(model="mistral-small-latest", messages=MESSAGES) as stream:
        for _ in stream:
            break

    event = recorder.only()
    assert (event["status"], event["estimated"], event["output_tokens"]) == ("cancelled", True, 1)


def test_a_stream_left_at_its_last_chunk_is_complete(
    server: ModelServer, recorder: Recorder, client: Mistral
) -> None:
    server.answer(CHAT, sse_answer(CHUNKS))

    with client.chat.stream(model="mistral-small-latest", messages=MESSAGES) as stream:
        for event in stream:
            if event.data.choices[0].finish_reason:
                break

    assert counted(recorder.only()) == complete(stream=True)
    assert "status" not in recorder.only()


def test_an_error(server: ModelServer, recorder: Recorder, client: Mistral) -> None:
    server.answer(CHAT, json_answer({"message": "Unauthorized"}, status=401))

    with pytest.raises(SDKError):
        client.chat.complete(model="mistral-small-latest", messages=MESSAGES)

    event = recorder.only()
    assert (event["status"], event["error_type"], event["error_message"]) == ("error", "SDKError", "HTTP 401")
    assert event.get("input_tokens", 0) == 0


def test_embeddings_and_ocr(server: ModelServer, recorder: Recorder, client: Mistral) -> None:
    server.answer(
        "/v1/embeddings",
        json_answer(
            {
                "id": "emb-1",
                "object": "list",
                "model": "mistral-embed",
                "data": [{"object": "embedding", "embedding": [0.1], "index": 0}],
                "usage": {"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8},
            }
        ),
    )
    page = {"index": 0, "markdown": "# Hello", "images": [], "dimensions": None}
    server.answer(
        "/v1/ocr",
        json_answer(
            {
                "pages": [page, {**page, "index": 1}],
                "model": "mistral-ocr-latest",
                "usage_info": {"pages_processed": 2},
            }
        ),
    )

    client.embeddings.create(model="mistral-embed", inputs=["Say hello"])
    client.ocr.process(
        model="mistral-ocr-latest", document={"type": "document_url", "document_url": "https://x.test/a.pdf"}
    )

    embedded, scanned = recorder.events
    assert counted(embedded) == ("mistral/emb-1", "mistral-embed", "embeddings", False, 8, 0)
    assert (scanned["api_operation"], scanned["model"], scanned["pages"]) == ("ocr", "mistral-ocr-latest", 2)


def test_an_agent_stands_for_its_model(server: ModelServer, recorder: Recorder, client: Mistral) -> None:
    server.answer("/v1/agents/completions", json_answer(ANSWER))

    client.agents.complete(agent_id="ag-1", messages=MESSAGES)

    assert (recorder.only()["request_model"], recorder.only()["model"]) == ("ag-1", "mistral-small-latest")


def test_asynchronous_calls(server: ModelServer, recorder: Recorder) -> None:
    server.answer(CHAT, json_answer(ANSWER), sse_answer(CHUNKS))

    async def calls() -> None:
        async with Mistral(api_key="k", server_url=server.url) as client:
            instrument(client, recorder)
            await client.chat.complete_async(model="mistral-small-latest", messages=MESSAGES)
            async with await client.chat.stream_async(
                model="mistral-small-latest", messages=MESSAGES
            ) as stream:
                async for _ in stream:
                    pass
            client.sdk_configuration.client.close()

    asyncio.run(calls())

    assert [counted(event) for event in recorder.events] == [complete(stream=False), complete(stream=True)]


def test_a_task_that_is_cancelled(server: ModelServer, recorder: Recorder) -> None:
    server.answer(CHAT, sse_answer(CHUNKS, release=threading.Event()))

    async def cancelled() -> None:
        first = asyncio.Event()
        async with Mistral(api_key="k", server_url=server.url) as client:
            instrument(client, recorder)

            async def read() -> None:
                async with await client.chat.stream_async(
                    model="mistral-small-latest", messages=MESSAGES
                ) as stream:
                    async for _ in stream:
                        first.set()

            task = asyncio.create_task(read())
            await first.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            client.sdk_configuration.client.close()

    asyncio.run(cancelled())

    assert recorder.only()["status"] == "cancelled"
