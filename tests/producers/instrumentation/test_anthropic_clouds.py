"""Claude bought from a cloud, by the clients of the Anthropic SDK, against a server on this machine."""

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from anthropic import DefaultAsyncHttpxClient, DefaultHttpxClient
from support.anthropic_answers import CALL, COUNTS, MESSAGE, message_events
from support.event_stream import chunk
from support.model_server import Answer, ModelServer, Recorder, assert_says, json_answer, sse_answer

from tokentide.producers.instrumentation import instrument

AWS = {"aws_region": "eu-west-1", "aws_access_key": "k", "aws_secret_key": "s"}
# Class (an asynchronous one has Async before it) -> provider, where it posts, and what it is made with.
CLIENTS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "AnthropicBedrock": (
        "aws",
        "/model/claude-opus-5/invoke",
        "/model/claude-opus-5/invoke-with-response-stream",
        AWS,
    ),
    "AnthropicBedrockMantle": ("aws", "/v1/messages", "/v1/messages", AWS),
    "AnthropicAWS": ("aws", "/v1/messages", "/v1/messages", {**AWS, "workspace_id": "w"}),
    "AnthropicVertex": (
        "google",
        "/projects/p/locations/europe-west1/publishers/anthropic/models/claude-opus-5:rawPredict",
        "/projects/p/locations/europe-west1/publishers/anthropic/models/claude-opus-5:streamRawPredict",
        {"region": "europe-west1", "project_id": "p", "access_token": "t"},
    ),
    "AnthropicGoogleCloud": (
        "google",
        "/v1/messages",
        "/v1/messages",
        {"skip_auth": True, "workspace_id": "w"},
    ),
    "AnthropicFoundry": ("azure", "/v1/messages", "/v1/messages", {"api_key": "k"}),
}


def expected(provider: str) -> dict[str, Any]:
    """What the event of the answer says."""
    return {
        "provider": provider,
        # On AWS, what was asked for has a price.
        "model": "claude-opus-5" if provider == "aws" else "claude-opus-5-20260801",
        "request_model": "claude-opus-5",
        "api_operation": "chat",
        "event_id": f"{provider}/{MESSAGE['id']}",
        **COUNTS,
    }


def streamed(name: str) -> Answer:
    """The stream, as this cloud frames it."""
    if name != "AnthropicBedrock":
        return sse_answer(message_events(), named=True, done=False)
    frames = [chunk(event) for event in message_events()]
    return Answer(frames, content_type="application/vnd.amazon.eventstream")


def made(name: str, server: ModelServer, recorder: Recorder) -> Any:
    """A metered client."""
    is_async = name.startswith("Async")
    http = DefaultAsyncHttpxClient(verify=False) if is_async else DefaultHttpxClient(verify=False)
    _, _, _, arguments = CLIENTS[name.removeprefix("Async")]
    client = getattr(anthropic, name)(base_url=server.url, max_retries=0, http_client=http, **arguments)
    return instrument(client, recorder)


def _create(client: Any) -> str:
    with client:
        return str(client.with_options(timeout=5).messages.create(**CALL).content[0].text)


async def _create_async(client: Any) -> str:
    async with client:
        return str((await client.messages.create(**CALL)).content[0].text)


def _events(client: Any) -> list[str]:
    with client:
        return [event.type for event in client.messages.create(**CALL, stream=True)]


async def _events_async(client: Any) -> list[str]:
    async with client:
        return [event.type async for event in await client.messages.create(**CALL, stream=True)]


def _helper(client: Any) -> list[str]:
    with client, client.messages.stream(**CALL) as stream:
        return [event.type for event in stream if event.type == "message_stop"]


MESSAGES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "create": ("", _create),
    "async": ("Async", lambda client: asyncio.run(_create_async(client))),
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(("kind", "call"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_gives_one_event(
    server: ModelServer, recorder: Recorder, name: str, kind: str, call: Callable[[Any], str]
) -> None:
    provider, path, _, _ = CLIENTS[name]
    server.answer(path, json_answer(MESSAGE))

    assert call(made(kind + name, server, recorder)) == "Hello!"

    assert_says(recorder.only(), expected(provider))


STREAMS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "create": ("", _events),
    "helper": ("", _helper),
    "async": ("Async", lambda client: asyncio.run(_events_async(client))),
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(("kind", "call"), STREAMS.values(), ids=STREAMS)
def test_a_streamed_message_gives_one_event(
    server: ModelServer, recorder: Recorder, name: str, kind: str, call: Callable[[Any], list[str]]
) -> None:
    provider, _, path, _ = CLIENTS[name]
    server.answer(path, streamed(name))

    assert call(made(kind + name, server, recorder))[-1] == "message_stop"

    assert_says(recorder.only(), expected(provider), stream=True)


@pytest.mark.parametrize("name", CLIENTS)
def test_an_error_gives_one_event(server: ModelServer, recorder: Recorder, name: str) -> None:
    provider, path, _, _ = CLIENTS[name]
    server.answer(path, json_answer({"message": "Too many requests"}, status=429))

    with made(name, server, recorder) as client, pytest.raises(anthropic.RateLimitError):
        client.messages.create(**CALL)

    event = recorder.only()
    assert (event["status"], event["error_type"], event["provider"]) == ("error", "RateLimitError", provider)
    assert (event["model"], event.get("input_tokens", 0)) == ("claude-opus-5", 0)
