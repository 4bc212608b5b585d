"""The other clients of OpenAI's generator: Groq, Together, Cerebras, OpenAI on Azure and Bedrock, in all ways."""

import asyncio
from collections.abc import Callable
from typing import Any

import cerebras.cloud.sdk
import groq
import openai
import pytest
import together
from support.model_server import ModelServer, Recorder, assert_says, json_answer, sse_answer
from support.openai_answers import COMPLETION, chat_chunks

from tokentide.producers.instrumentation import instrument

CALL: dict[str, Any] = {"model": "llama-4", "messages": [{"role": "user", "content": "Hello"}]}

Make = Callable[[str], Any]


def _client(module: Any, name: str, url: str, path: str = "", **more: Any) -> Any:
    http_kind = "DefaultAsyncHttpxClient" if name.startswith("Async") else "DefaultHttpxClient"
    http = getattr(module, http_kind)(verify=False)
    return getattr(module, name)(api_key="none", base_url=url + path, max_retries=0, http_client=http, **more)


AZURE = {"api_version": "2025-04-01-preview"}
MAKERS: dict[str, tuple[str, str, Make, Make]] = {
    "groq": (
        "groq",
        "/openai/v1/chat/completions",
        lambda url: _client(groq, "Groq", url),
        lambda url: _client(groq, "AsyncGroq", url),
    ),
    "together": (
        "together",
        "/v1/chat/completions",
        lambda url: _client(together, "Together", url),
        lambda url: _client(together, "AsyncTogether", url),
    ),
    "cerebras": (
        "cerebras",
        "/v1/chat/completions",
        lambda url: _client(cerebras.cloud.sdk, "Cerebras", url, warm_tcp_connection=False),
        lambda url: _client(cerebras.cloud.sdk, "AsyncCerebras", url, warm_tcp_connection=False),
    ),
    "azure": (
        "azure",
        "/openai/deployments/llama-4/chat/completions",
        lambda url: _client(openai, "AzureOpenAI", url, "/openai", **AZURE),
        lambda url: _client(openai, "AsyncAzureOpenAI", url, "/openai", **AZURE),
    ),
    "bedrock": (
        "aws",
        "/openai/v1/chat/completions",
        lambda url: _client(openai, "BedrockOpenAI", url, "/openai/v1", aws_region="eu-west-1"),
        lambda url: _client(openai, "AsyncBedrockOpenAI", url, "/openai/v1", aws_region="eu-west-1"),
    ),
}


def expected(provider: str) -> dict[str, Any]:
    """Return what each of their events says."""
    return {
        "provider": provider,
        "model": COMPLETION["model"],
        "request_model": "llama-4",
        "event_id": f"{provider}/{COMPLETION['id']}",
        "input_tokens": 19,
        "cache_read_tokens": 8,
        "output_tokens": 10,
        "finish_reason": "stop",
    }


@pytest.mark.parametrize(("provider", "path", "make", "_"), MAKERS.values(), ids=MAKERS)
def test_a_call_gives_one_event(
    server: ModelServer, recorder: Recorder, provider: str, path: str, make: Make, _: Make
) -> None:
    server.answer(path, json_answer(COMPLETION))

    with make(server.url) as client:
        instrument(client, recorder)
        assert client.chat.completions.create(**CALL).id == COMPLETION["id"]
        assert client.chat.completions.with_raw_response.create(**CALL).parse().id == COMPLETION["id"]
        with client.chat.completions.with_streaming_response.create(**CALL) as response:
            assert response.parse().id == COMPLETION["id"]
        assert client.with_options(timeout=5).chat.completions.create(**CALL).id == COMPLETION["id"]

    assert len(recorder.events) == 4
    for event in recorder.events:
        assert_says(event, expected(provider))


@pytest.mark.parametrize(("provider", "path", "make", "_"), MAKERS.values(), ids=MAKERS)
def test_a_stream_gives_one_event(
    server: ModelServer, recorder: Recorder, provider: str, path: str, make: Make, _: Make
) -> None:
    server.answer(path, sse_answer(chat_chunks()))

    with make(server.url) as client:
        instrument(client, recorder)
        assert len(list(client.chat.completions.create(**CALL, stream=True))) == 4

    assert server.bodies()[0]["stream_options"] == {"include_usage": True}
    assert_says(recorder.only(), expected(provider), stream=True)


@pytest.mark.parametrize(("provider", "path", "_", "make"), MAKERS.values(), ids=MAKERS)
def test_async_calls_give_one_event_each(
    server: ModelServer, recorder: Recorder, provider: str, path: str, _: Make, make: Make
) -> None:
    server.answer(path, json_answer(COMPLETION), sse_answer(chat_chunks()))

    async def main() -> None:
        async with make(server.url) as client:
            instrument(client, recorder)
            await client.chat.completions.create(**CALL)
            stream = await client.chat.completions.create(**CALL, stream=True)
            assert len([chunk async for chunk in stream]) == 4

    asyncio.run(main())

    whole, streamed = recorder.events
    assert_says(whole, expected(provider))
    assert_says(streamed, expected(provider), stream=True)


@pytest.mark.parametrize(("provider", "path", "make", "_"), MAKERS.values(), ids=MAKERS)
def test_an_error_gives_one_event(
    server: ModelServer, recorder: Recorder, provider: str, path: str, make: Make, _: Make
) -> None:
    server.answer(path, json_answer({"error": {"message": "no"}}, status=401))

    with make(server.url) as client:
        instrument(client, recorder)
        with pytest.raises(Exception, match="no"):
            client.chat.completions.create(**CALL)

    event = recorder.only()
    assert (event["provider"], event["status"], event["error_message"]) == (provider, "error", "HTTP 401")


def test_an_old_azure_version_is_not_asked_for_usage(server: ModelServer, recorder: Recorder) -> None:
    _, path, *_ = MAKERS["azure"]
    server.answer(path, sse_answer(chat_chunks(usage=False)))

    with _client(openai, "AzureOpenAI", server.url, "/openai", api_version="2023-05-15") as client:
        instrument(client, recorder)
        list(client.chat.completions.create(**CALL, stream=True))

    assert "stream_options" not in server.bodies()[0]
    assert recorder.only()["estimated"]
