"""Each way to call the OpenAI SDK, against a server on this machine: exactly one right event."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from openai import DefaultHttpxClient, OpenAI
from pydantic import BaseModel
from support.model_server import ModelServer, Recorder, assert_says, json_answer, sse_answer
from support.openai_answers import COMPLETION, chat_chunks

from tokentide.producers.instrumentation import instrument, uninstrument

MODEL = "gpt-4.1"
MESSAGES: Any = [{"role": "user", "content": "Say hello, as JSON."}]
CHAT = {
    "provider": "openai",
    "model": "gpt-4.1-2025-04-14",
    "request_model": MODEL,
    "api_operation": "chat",
    "event_id": f"openai/{COMPLETION['id']}",
    "request_id": COMPLETION["id"],
    "provider_created": datetime.fromtimestamp(COMPLETION["created"], UTC),
    "system_fingerprint": "fp_44709d6fcb",
    "service_tier": "default",
    "finish_reason": "stop",
    "input_tokens": 19,
    "output_tokens": 10,
    "cache_read_tokens": 8,
    "reasoning_tokens": 4,
}


class Word(BaseModel):
    """What the service wants the answer to be."""

    word: str


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[OpenAI]:
    """A metered client."""
    # Without certificates: to load them takes longer than the test.
    http = DefaultHttpxClient(verify=False)
    with OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0, http_client=http) as client:
        yield instrument(client, recorder)


@pytest.fixture
def chats(server: ModelServer) -> None:
    """The server answers a chat whole."""
    server.answer("/v1/chat/completions", json_answer(COMPLETION))


@pytest.fixture
def chat_streams(server: ModelServer) -> None:
    """The server streams a chat, with its usage."""
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))


CHAT_CALLS: dict[str, Callable[[OpenAI], Any]] = {
    "create": lambda client: client.chat.completions.create(model=MODEL, messages=MESSAGES),
    "parse": lambda client: (
        client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Word)
        .choices[0]
        .message.parsed
    ),
    "raw": lambda client: client.chat.completions.with_raw_response.create(
        model=MODEL, messages=MESSAGES
    ).parse(),
    "raw never parsed": lambda client: (
        client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES).headers
    ),
    "copy": lambda client: client.copy().chat.completions.create(model=MODEL, messages=MESSAGES),
    "with_options": lambda client: (
        client.with_options(timeout=5)
        .with_options(max_retries=1)
        .chat.completions.create(model=MODEL, messages=MESSAGES)
    ),
    "post": lambda client: client.post(
        "/chat/completions", cast_to=object, body={"model": MODEL, "messages": MESSAGES}
    ),
}


@pytest.mark.usefixtures("chats")
@pytest.mark.parametrize("call", CHAT_CALLS.values(), ids=CHAT_CALLS)
def test_a_chat_gives_one_event(client: OpenAI, recorder: Recorder, call: Callable[[OpenAI], Any]) -> None:
    answer = call(client)

    assert answer is not None
    assert_says(recorder.only(), CHAT)


@pytest.mark.usefixtures("chats")
def test_the_answer_is_what_it_is_without_metering(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    metered = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    uninstrument(client)
    assert metered == client.chat.completions.create(model=MODEL, messages=MESSAGES)

    assert server.bodies()[0] == server.bodies()[1]
    assert len(recorder.events) == 1


@pytest.mark.usefixtures("chats")
def test_a_body_read_by_the_service_itself_gives_one_event(client: OpenAI, recorder: Recorder) -> None:
    with client.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES) as response:
        assert b"".join(response.iter_bytes(16)).startswith(b'{"id"')

    assert_says(recorder.only(), CHAT)


@pytest.mark.usefixtures("chats")
def test_a_streaming_response_that_is_parsed_gives_one_event(client: OpenAI, recorder: Recorder) -> None:
    with client.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES) as response:
        assert response.parse().id == COMPLETION["id"]

    assert_says(recorder.only(), CHAT)


@pytest.mark.usefixtures("chat_streams")
def test_a_streamed_chat_gives_one_event_and_its_usage_chunk_is_hidden(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    body = {"model": MODEL, "messages": MESSAGES, "stream": True}

    chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))

    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Hel", "lo", None]
    assert server.bodies() == [body | {"stream_options": {"include_usage": True}}]
    assert_says(recorder.only(), CHAT, stream=True)


@pytest.mark.usefixtures("chat_streams")
def test_a_usage_chunk_that_the_service_asked_for_stays(client: OpenAI, recorder: Recorder) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )

    *_, last = stream

    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 29
    assert_says(recorder.only(), CHAT, stream=True)


@pytest.mark.usefixtures("chat_streams")
def test_a_stream_left_at_its_finish_reason_is_exact(client: OpenAI, recorder: Recorder) -> None:
    with client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].finish_reason:
                break

    assert_says(recorder.only(), CHAT, stream=True)


@pytest.mark.usefixtures("chat_streams")
def test_the_stream_helper_gives_one_event(client: OpenAI, recorder: Recorder) -> None:
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:
        types = [event.type for event in stream]
        completion = stream.get_final_completion()

    assert "content.done" in types
    assert completion.choices[0].message.content == "Hello"
    assert_says(recorder.only(), CHAT, stream=True)


@pytest.mark.usefixtures("chat_streams")
def test_a_raw_stream_gives_one_event(client: OpenAI, recorder: Recorder) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, stream=True)

    assert len(list(raw.parse())) == 4
    assert_says(recorder.only(), CHAT, stream=True)


@pytest.mark.usefixtures("chat_streams")
def test_a_stream_read_line_by_line_gives_one_event(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    ) as response:
        for line in response.iter_lines():
            if line == "data: [DONE]":
                break

    assert_says(recorder.only(), CHAT, stream=True)


def test_nothing_is_added_to_a_stream_whose_bytes_the_service_reads(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks(usage=False)))

    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=MESSAGES, stream=True
    ) as response:
        list(response.iter_lines())

    assert "stream_options" not in server.bodies()[0]
    event = recorder.only()
    assert event["estimated"]
    assert event["output_tokens"] > 0


def test_a_server_that_refuses_stream_options_is_asked_without_them(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    refusal = json_answer(
        {"error": {"message": "Unrecognized request argument supplied: stream_options"}}, status=400
    )
    server.answer("/v1/chat/completions", refusal, sse_answer(chat_chunks(usage=False)))

    for _ in range(2):
        chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
        assert len(chunks) == 4

    assert ["stream_options" in body for body in server.bodies()] == [True, False, False]
    assert [event["estimated"] for event in recorder.events] == [True, True]
    assert [event.get("status", "success") for event in recorder.events] == ["success", "success"]


def test_a_server_refuses_once_for_all_copies_of_a_client(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    """Services set a timeout for one call by a copy: each would be sent twice."""
    refusal = json_answer({"error": {"message": "unknown field: stream_options"}}, status=422)
    server.answer("/v1/chat/completions", refusal, sse_answer(chat_chunks(usage=False)))

    for _ in range(3):
        with client.with_options(timeout=5).chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True
        ) as stream:
            list(stream)

    assert ["stream_options" in body for body in server.bodies()] == [True, False, False, False]
    assert len(recorder.events) == 3
