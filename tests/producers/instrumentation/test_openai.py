"""Each way to call the OpenAI SDK, against a server on this machine: exactly one right event."""

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel
from support.model_server import Answer, ModelServer, Recorder, json_answer, sse_answer
from support.openai_answers import COMPLETION, EMBEDDINGS, IMAGES, RESPONSE, chat_chunks, response_events

from tokentide.producers.instrumentation import instrument

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
RESPONSES = {
    "provider": "openai",
    "model": "gpt-4.1-2025-04-14",
    "api_operation": "responses",
    "event_id": f"openai/{RESPONSE['id']}",
    "service_tier": "default",
    "input_tokens": 36,
    "output_tokens": 87,
    "cache_read_tokens": 12,
    "reasoning_tokens": 5,
}


class Word(BaseModel):
    """What the service wants the answer to be."""

    word: str


def assert_says(event: dict[str, Any], expected: dict[str, Any], *, stream: bool = False) -> None:
    """Check the fields of a call that went well."""
    assert {name: event.get(name) for name in expected} == expected
    assert event["stream"] is stream
    assert event.get("status", "success") == "success"
    assert not event.get("estimated")
    assert 0 < event["latency_ms"] < 60_000
    assert ("ttft_ms" in event) is stream
    if stream:
        assert 0 < event["ttft_ms"] <= event["latency_ms"]


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[OpenAI]:
    """A metered client."""
    with OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0) as client:
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
    with OpenAI(api_key="none", base_url=f"{server.url}/v1") as plain:
        assert metered == plain.chat.completions.create(model=MODEL, messages=MESSAGES)

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


RESPONSES_CALLS: dict[str, Callable[[OpenAI], Any]] = {
    "create": lambda client: client.responses.create(model=MODEL, input="Say hello"),
    "parse": lambda client: client.responses.parse(model=MODEL, input="Say hello", text_format=Word),
    "raw": lambda client: client.responses.with_raw_response.create(model=MODEL, input="Say hello").parse(),
}


@pytest.mark.parametrize("call", RESPONSES_CALLS.values(), ids=RESPONSES_CALLS)
def test_a_response_gives_one_event(
    client: OpenAI, server: ModelServer, recorder: Recorder, call: Callable[[OpenAI], Any]
) -> None:
    server.answer("/v1/responses", json_answer(RESPONSE))

    assert call(client).output_text == '{"word": "hello"}'

    assert_says(recorder.only(), RESPONSES)


def test_a_streamed_response_gives_one_event(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/responses", sse_answer(response_events(), named=True, done=False))

    events = list(client.responses.create(model=MODEL, input="Say hello", stream=True))

    assert events[-1].type == "response.completed"
    assert "stream_options" not in server.bodies()[0]
    assert_says(recorder.only(), RESPONSES, stream=True)


def test_the_stream_helper_of_responses_gives_one_event(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/responses", sse_answer(response_events(), named=True, done=False))

    with client.responses.stream(model=MODEL, input="Say hello") as stream:
        for event in stream:
            if event.type == "response.completed":
                break

    assert_says(recorder.only(), RESPONSES, stream=True)


def test_embeddings_give_one_event_each(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/embeddings", json_answer(EMBEDDINGS, headers={"x-request-id": "req_1"}))

    for _ in range(2):
        client.embeddings.create(model="text-embedding-3-small", input="Hello", encoding_format="float")

    for event in recorder.events:
        assert_says(
            event,
            {
                "model": "text-embedding-3-small",
                "api_operation": "embeddings",
                "input_tokens": 8,
                "request_id": "req_1",
            },
        )
    # A gateway may give several calls the same x-request-id: it makes no event_id.
    assert [event.get("event_id") for event in recorder.events] == [None, None]


def test_a_transcription_gives_one_event(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    server.answer(
        "/v1/audio/transcriptions",
        json_answer({"text": "Hello", "usage": {"type": "duration", "seconds": 9}}),
    )

    client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", io.BytesIO(b"ID3")))

    assert_says(recorder.only(), {"model": "whisper-1", "api_operation": "transcription", "audio_seconds": 9})


def test_a_transcription_as_bare_text_gives_one_event(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/audio/transcriptions", Answer([b"Hello there"], content_type="text/plain"))

    text = client.audio.transcriptions.create(
        model="whisper-1", file=("a.mp3", io.BytesIO(b"ID3")), response_format="text"
    )

    assert text == "Hello there"
    event = recorder.only()
    assert event["api_operation"] == "transcription"
    assert event["estimated"]


SPEECH_CALLS: dict[str, Callable[[OpenAI], bytes]] = {
    "create": lambda client: client.audio.speech.create(model="tts-1", voice="coral", input="Hello!").content,
    "raw": lambda client: (
        client.audio.speech.with_raw_response.create(model="tts-1", voice="coral", input="Hello!").content
    ),
}


@pytest.mark.parametrize("call", SPEECH_CALLS.values(), ids=SPEECH_CALLS)
def test_speech_is_counted_in_characters(
    client: OpenAI, server: ModelServer, recorder: Recorder, call: Callable[[OpenAI], bytes]
) -> None:
    server.answer("/v1/audio/speech", Answer([b"\xff\xf3", b"\x84\xc4"], content_type="audio/mpeg"))

    assert call(client) == b"\xff\xf3\x84\xc4"

    assert_says(recorder.only(), {"model": "tts-1", "api_operation": "speech", "input_characters": 6})


def test_speech_that_is_streamed_is_counted_in_characters(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/audio/speech", Answer([b"\xff\xf3", b"\x84\xc4"], content_type="audio/mpeg"))

    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="coral", input="Hello!"
    ) as response:
        assert b"".join(response.iter_bytes()) == b"\xff\xf3\x84\xc4"

    event = recorder.only()
    assert event["input_characters"] == 6
    assert event.get("status", "success") == "success"


def test_an_image_gives_one_event(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/images/generations", json_answer(IMAGES))

    client.images.generate(model="gpt-image-1", prompt="A cat", size="1024x1024", quality="high")

    assert_says(
        recorder.only(),
        {
            "model": "gpt-image-1",
            "api_operation": "image",
            "input_tokens": 50,
            "input_image_tokens": 40,
            "output_tokens": 50,
        },
    )


def test_what_is_no_call_of_a_model_gives_no_event(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/moderations", json_answer({"id": "modr-1", "model": "m", "results": []}))

    client.moderations.create(input="Hello")

    assert recorder.events == []
