"""Each way to call the Anthropic SDK, against a server on this machine: exactly one right event."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic, DefaultAsyncHttpxClient, DefaultHttpxClient
from support.anthropic_answers import CALL, COUNTS, MESSAGE, message_events
from support.model_server import ModelServer, Recorder, assert_says, json_answer, sse_answer

from tokentide.producers.instrumentation import instrument

PATH = "/v1/messages"
EXPECTED = {
    "provider": "anthropic",
    "model": "claude-opus-5-20260801",
    "request_model": "claude-opus-5",
    "api_operation": "chat",
    "event_id": f"anthropic/{MESSAGE['id']}",
    "request_id": MESSAGE["id"],
    "service_tier": "standard",
    "finish_reason": "end_turn",
    **COUNTS,
}


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[Anthropic]:
    """A metered client."""
    http = DefaultHttpxClient(verify=False)
    with Anthropic(api_key="none", base_url=server.url, max_retries=0, http_client=http) as client:
        yield instrument(client, recorder)


def _read(response: Any) -> str:
    with response as opened:
        return str(opened.read())


CALLS: dict[str, Callable[[Anthropic], Any]] = {
    "create": lambda client: client.messages.create(**CALL).content[0].text,
    "beta": lambda client: client.beta.messages.create(**CALL).content[0].text,
    "raw": lambda client: client.messages.with_raw_response.create(**CALL).parse().content[0].text,
    "streaming response": lambda client: _read(client.messages.with_streaming_response.create(**CALL)),
    "copy": lambda client: client.with_options(timeout=5).messages.create(**CALL).content[0].text,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_message_gives_one_event(
    client: Anthropic, server: ModelServer, recorder: Recorder, call: Callable[[Anthropic], Any]
) -> None:
    server.answer(PATH, json_answer(MESSAGE))

    assert "Hello!" in call(client)

    assert_says(recorder.only(), EXPECTED)


def _events(stream: Any) -> list[str]:
    return [event.type for event in stream]


def _left_at_the_last_delta(client: Anthropic) -> list[str]:
    seen = []
    with client.messages.create(**CALL, stream=True) as stream:
        for event in stream:
            seen.append(event.type)
            if event.type == "message_delta":
                break
    return seen


def _helper(client: Anthropic) -> list[str]:
    with client.messages.stream(**CALL) as stream:
        assert "".join(stream.text_stream) == "Hello!"
        assert stream.get_final_message().id == MESSAGE["id"]
        return ["message_start"]


STREAMS: dict[str, Callable[[Anthropic], list[str]]] = {
    "create": lambda client: _events(client.messages.create(**CALL, stream=True)),
    "raw": lambda client: _events(client.messages.with_raw_response.create(**CALL, stream=True).parse()),
    "helper": _helper,
    "left at the last delta": _left_at_the_last_delta,
}


@pytest.mark.parametrize("call", STREAMS.values(), ids=STREAMS)
def test_a_streamed_message_gives_one_event(
    client: Anthropic, server: ModelServer, recorder: Recorder, call: Callable[[Anthropic], list[str]]
) -> None:
    server.answer(PATH, sse_answer(message_events(), named=True, done=False))

    assert call(client)[0] == "message_start"

    assert "stream_options" not in server.bodies()[0]
    assert_says(recorder.only(), EXPECTED, stream=True)


def test_a_stream_left_early_counts_what_was_said_so_far(
    client: Anthropic, server: ModelServer, recorder: Recorder
) -> None:
    server.answer(PATH, sse_answer(message_events(), named=True, done=False))

    for event in client.messages.create(**CALL, stream=True):
        if event.type == "content_block_delta":
            break
    gc.collect()

    event = recorder.only()
    assert event["status"] == "cancelled"
    assert event["input_tokens"] == 165
    assert event["event_id"] == EXPECTED["event_id"]


def test_an_error_gives_one_event(client: Anthropic, server: ModelServer, recorder: Recorder) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    server.answer(PATH, json_answer(error, status=529))

    with pytest.raises(anthropic.APIStatusError):
        client.messages.create(**CALL)

    event = recorder.only()
    assert (event["status"], event["provider"]) == ("error", "anthropic")
    assert event["error_message"].startswith("HTTP 529")


def test_counting_tokens_is_no_call_of_a_model(
    client: Anthropic, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/messages/count_tokens", json_answer({"input_tokens": 9}))

    client.messages.count_tokens(model=CALL["model"], messages=CALL["messages"])

    assert recorder.events == []


def test_async_calls_give_one_event_each(server: ModelServer, recorder: Recorder) -> None:
    streamed = sse_answer(message_events(), named=True, done=False)
    server.answer(PATH, json_answer(MESSAGE), json_answer(MESSAGE), streamed)

    async def main() -> None:
        http = DefaultAsyncHttpxClient(verify=False)
        async with AsyncAnthropic(
            api_key="none", base_url=server.url, max_retries=0, http_client=http
        ) as client:
            instrument(client, recorder)
            await client.messages.create(**CALL)
            raw = await client.messages.with_raw_response.create(**CALL)
            parsed = await raw.parse()
            assert parsed.content[0].text == "Hello!"
            assert len([event async for event in await client.messages.create(**CALL, stream=True)]) == 7
            async with client.messages.stream(**CALL) as stream:
                assert "".join([text async for text in stream.text_stream]) == "Hello!"
            raw = await client.messages.with_raw_response.create(**CALL, stream=True)
            assert len([event async for event in await raw.parse()]) == 7
            async with client.messages.with_streaming_response.create(**CALL, stream=True) as response:
                assert len([line async for line in response.iter_lines()]) > 8

    asyncio.run(main())

    for number, event in enumerate(recorder.events):
        assert_says(event, EXPECTED, stream=number > 1)
    assert len(recorder.events) == 6
