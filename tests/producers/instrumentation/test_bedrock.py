"""boto3's client for Bedrock against a local server: one event for each call, whatever way it ends."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.eventstream import EventStream  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    ClientError,
    EndpointConnectionError,
    EventStreamError,
    ParamValidationError,
)
from support.event_stream import chunk, frame
from support.model_server import Answer, ModelServer, Recorder, json_answer

from tokentide.producers.instrumentation import instrument, uninstrument

CLAUDE = "anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-lite-v1:0"
HERE = "/model/anthropic.claude-haiku-4-5-20251001-v1%3A0"
MESSAGES = [{"role": "user", "content": [{"text": "Say hello"}]}]
# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html: three disjoint inputs.
USAGE = {
    "inputTokens": 10,
    "cacheReadInputTokens": 40,
    "cacheWriteInputTokens": 50,
    "outputTokens": 20,
    "totalTokens": 120,
}
COUNTS = {"input_tokens": 100, "cache_read_tokens": 40, "cache_write_tokens": 50, "output_tokens": 20}
CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
    "stopReason": "end_turn",
    "usage": USAGE,
    "metrics": {"latencyMs": 5},
}
CLAUDE_SAID = {
    "id": "msg_bdrk_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 50,
        "output_tokens": 20,
    },
}
STREAM = [
    frame("messageStart", {"role": "assistant"}),
    frame("contentBlockDelta", {"delta": {"text": "Hello"}, "contentBlockIndex": 0}),
    frame("messageStop", {"stopReason": "end_turn"}),
    frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 5}}),
]


def bedrock(url: str, service: str = "bedrock-runtime") -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[Any]:
    client = bedrock(server.url)
    yield instrument(client, recorder)
    client.close()


def events(*frames: bytes, **more: Any) -> Answer:
    return Answer(frames, content_type="application/vnd.amazon.eventstream", **more)


def chosen(event: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return {name: event.get(name) for name in names}


def test_converse(server: ModelServer, recorder: Recorder, client: Any) -> None:
    server.answer(f"{HERE}/converse", json_answer(CONVERSED, headers={"x-amzn-requestid": "req-1"}))

    answer = client.converse(modelId=CLAUDE, messages=MESSAGES)

    assert answer["output"]["message"]["content"][0]["text"] == "Hello"
    expected = {
        **COUNTS,
        "provider": "aws",
        "model": CLAUDE,
        "api_operation": "chat",
        "event_id": "aws/req-1",
        "stream": False,
    }
    assert chosen(recorder.only(), expected) == expected


def test_a_streamed_conversation(server: ModelServer, recorder: Recorder, client: Any) -> None:
    server.answer(f"{HERE}/converse-stream", events(*STREAM))

    answer = client.converse_stream(modelId=CLAUDE, messages=MESSAGES)
    assert isinstance(answer["stream"], EventStream)
    seen = [next(iter(event)) for event in answer["stream"]]

    assert seen == ["messageStart", "contentBlockDelta", "messageStop", "metadata"]
    expected = {**COUNTS, "model": CLAUDE, "stream": True, "finish_reason": "end_turn"}
    assert chosen(recorder.only(), expected) == expected
    assert "status" not in recorder.only()


def test_a_stream_that_is_closed_early(server: ModelServer, recorder: Recorder, client: Any) -> None:
    server.answer(f"{HERE}/converse-stream", events(*STREAM, release=threading.Event()))

    stream = client.converse_stream(modelId=CLAUDE, messages=MESSAGES)["stream"]
    for event in stream:
        if "contentBlockDelta" in event:
            break
    stream.close()

    event = recorder.only()
    assert (event["status"], event["estimated"], event["output_tokens"]) == ("cancelled", True, 2)


def test_a_stream_that_nobody_reads_is_a_call(server: ModelServer, recorder: Recorder, client: Any) -> None:
    server.answer(f"{HERE}/converse-stream", events(*STREAM))

    client.converse_stream(modelId=CLAUDE, messages=MESSAGES)["stream"].close()

    assert recorder.only()["status"] == "cancelled"


def test_an_error_inside_a_stream(server: ModelServer, recorder: Recorder, client: Any) -> None:
    broken = frame("modelStreamErrorException", {"message": "no"}, message_type="exception")
    server.answer(f"{HERE}/converse-stream", events(*STREAM[:2], broken))

    stream = client.converse_stream(modelId=CLAUDE, messages=MESSAGES)["stream"]
    with pytest.raises(EventStreamError):
        list(stream)
    stream.close()

    assert (recorder.only()["status"], recorder.only()["error_type"]) == ("error", "EventStreamError")


def test_an_error(server: ModelServer, recorder: Recorder, client: Any) -> None:
    server.answer(
        f"{HERE}/converse",
        json_answer(
            {"message": "Say hello is too much"},
            status=429,
            headers={"x-amzn-errortype": "ThrottlingException"},
        ),
    )

    with pytest.raises(ClientError):
        client.converse(modelId=CLAUDE, messages=MESSAGES)

    event = recorder.only()
    assert (event["status"], event["error_type"]) == ("error", "ThrottlingException")
    assert event["error_message"] == "HTTP 429 ThrottlingException"
    assert event.get("input_tokens", 0) == 0


def test_nobody_answers(recorder: Recorder, nowhere: str) -> None:
    client = instrument(bedrock(f"http://{nowhere}"), recorder)

    with pytest.raises(EndpointConnectionError):
        client.converse(modelId=CLAUDE, messages=MESSAGES)
    client.close()

    assert (recorder.only()["status"], recorder.only()["error_type"]) == ("error", "EndpointConnectionError")


def test_wrong_parameters_are_no_call(recorder: Recorder, client: Any) -> None:
    with pytest.raises(ParamValidationError):
        client.converse(modelId=CLAUDE, messages="hello")

    assert recorder.events == []


def test_an_invocation_of_claude(server: ModelServer, recorder: Recorder, client: Any) -> None:
    server.answer(f"{HERE}/invoke", json_answer(CLAUDE_SAID))

    body = client.invoke_model(modelId=CLAUDE, body=json.dumps({"messages": [], "max_tokens": 9}))["body"]

    assert json.loads(body.read()) == CLAUDE_SAID
    expected = {**COUNTS, "provider": "aws", "model": CLAUDE, "event_id": "aws/msg_bdrk_1"}
    assert chosen(recorder.only(), expected) == expected


def test_a_body_in_pieces(server: ModelServer, recorder: Recorder, client: Any) -> None:
    server.answer(f"{HERE}/invoke", json_answer(CLAUDE_SAID))

    body = client.invoke_model(modelId=CLAUDE, body="{}")["body"]

    assert json.loads(b"".join(body.iter_chunks(16))) == CLAUDE_SAID
    assert recorder.only()["output_tokens"] == 20


def test_a_body_that_nobody_reads_is_counted_by_its_headers(
    server: ModelServer, recorder: Recorder, client: Any
) -> None:
    headers = {"x-amzn-bedrock-input-token-count": "10", "x-amzn-bedrock-output-token-count": "20"}
    server.answer(f"{HERE}/invoke", json_answer(CLAUDE_SAID, headers=headers))

    client.invoke_model(modelId=CLAUDE, body="{}")["body"].close()

    event = recorder.only()
    assert (event["status"], event["input_tokens"], event["output_tokens"]) == ("cancelled", 10, 20)


def test_a_streamed_invocation(server: ModelServer, recorder: Recorder, client: Any) -> None:
    metrics = {"inputTokenCount": 10, "outputTokenCount": 20, "cacheReadInputTokenCount": 0}
    server.answer(
        "/model/amazon.nova-lite-v1%3A0/invoke-with-response-stream",
        events(
            chunk({"messageStart": {"role": "assistant"}}),
            chunk({"contentBlockDelta": {"delta": {"text": "Hello"}, "contentBlockIndex": 0}}),
            chunk({"messageStop": {"stopReason": "end_turn"}, "amazon-bedrock-invocationMetrics": metrics}),
        ),
    )

    answer = client.invoke_model_with_response_stream(modelId=NOVA, body="{}")

    assert len(list(answer["body"])) == 3
    expected = {"model": NOVA, "stream": True, "input_tokens": 10, "output_tokens": 20}
    assert chosen(recorder.only(), expected) == expected


def test_clients_of_other_services_are_not_metered(
    recorder: Recorder, server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = bedrock(server.url, "sts")

    instrument(client, recorder)
    client.close()

    (line,) = [line for line in caplog.records if "NOT metered" in line.message]
    assert "bedrock-runtime" in line.message


def test_uninstrument_gives_the_client_back(server: ModelServer, recorder: Recorder, client: Any) -> None:
    server.answer(f"{HERE}/converse", json_answer(CONVERSED))

    uninstrument(client).converse(modelId=CLAUDE, messages=MESSAGES)

    assert recorder.events == []


def test_a_guard_refuses_before_the_call(server: ModelServer, recorder: Recorder) -> None:
    class Refusing:
        def require(self, *args: Any, **kwargs: Any) -> None:
            raise PermissionError("over budget")

    client = instrument(bedrock(server.url), recorder, guard=Refusing())

    with pytest.raises(PermissionError):
        client.converse(modelId=CLAUDE, messages=MESSAGES)
    client.close()

    assert server.requests == []
    assert recorder.events == []
