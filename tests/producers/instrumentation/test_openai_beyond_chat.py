"""The OpenAI SDK beyond chat (responses, embeddings, audio, images): exactly one right event for each call."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import DefaultHttpxClient, OpenAI
from pydantic import BaseModel
from support.model_server import Answer, ModelServer, Recorder, assert_says, json_answer, sse_answer
from support.openai_answers import EMBEDDINGS, IMAGES, RESPONSE, response_events

from tokentide.producers.instrumentation import instrument

MODEL = "gpt-4.1"
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


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[OpenAI]:
    """A metered client."""
    # Without certificates: to load them takes longer than the test.
    http = DefaultHttpxClient(verify=False)
    with OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0, http_client=http) as client:
        yield instrument(client, recorder)


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


FAILED = RESPONSE | {"status": "failed", "error": {"code": "server_error", "message": "A secret"}}


def test_a_response_that_failed_is_an_error(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    """It is answered with status 200, and costs what it reports."""
    failing = [*response_events()[:-1], {"type": "response.failed", "sequence_number": 8, "response": FAILED}]
    server.answer("/v1/responses", json_answer(FAILED), sse_answer(failing, named=True, done=False))

    client.responses.create(model=MODEL, input="Say hello")
    list(client.responses.create(model=MODEL, input="Say hello", stream=True))

    for event in recorder.events:
        assert (event["status"], event["error_type"], event["output_tokens"]) == ("error", "failed", 87)
    assert len(recorder.events) == 2


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
