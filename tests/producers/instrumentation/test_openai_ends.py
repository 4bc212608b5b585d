"""However a call ends, it gives one event: errors, early ends, cancelled tasks, dropped streams."""

import asyncio
import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI
from pydantic import BaseModel
from support.model_server import Answer, ModelServer, Recorder, json_answer, sse_answer
from support.openai_answers import COMPLETION, chat_chunks

from tokentide.producers.instrumentation import instrument

MODEL = "gpt-4.1"
MESSAGES: Any = [{"role": "user", "content": "A secret that is in no event."}]
CALL: dict[str, Any] = {"model": MODEL, "messages": MESSAGES}


class Number(BaseModel):
    """What the answer is not."""

    number: int


@pytest.fixture
def client(server: ModelServer, recorder: Recorder) -> Iterator[OpenAI]:
    """A metered client that does not retry."""
    http = DefaultHttpxClient(verify=False)
    with OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0, http_client=http) as client:
        yield instrument(client, recorder)


def assert_ended(event: dict[str, Any], status: str, error_type: str) -> None:
    """Check how the call ended, and that nothing of the prompt is in its event."""
    assert (event["status"], event["error_type"]) == (status, error_type)
    assert event["latency_ms"] > 0
    assert event["request_model"] == MODEL
    assert "secret" not in str(event)


def test_an_http_error_gives_one_event(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    error = {
        "message": "Your prompt 'A secret' is bad",
        "type": "invalid_request_error",
        "code": "bad_prompt",
    }
    server.answer("/v1/chat/completions", json_answer({"error": error}, status=400))

    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**CALL)

    event = recorder.only()
    assert_ended(event, "error", "BadRequestError")
    assert event["error_message"] == "HTTP 400 bad_prompt invalid_request_error"
    assert event["model"] == MODEL
    assert "input_tokens" not in event
    assert "event_id" not in event


def test_the_request_id_of_an_error_is_kept(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    """It is what a provider's support asks for; no answer has it as its id, so it makes no event_id."""
    refusal = json_answer({"error": {"message": "no"}}, status=400, headers={"x-request-id": "req_1"})
    server.answer("/v1/chat/completions", refusal)

    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**CALL)

    assert recorder.only()["request_id"] == "req_1"
    assert "event_id" not in recorder.only()


def test_retries_are_one_call(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    busy = json_answer({"error": {"message": "busy"}}, status=503, headers={"retry-after-ms": "1"})
    server.answer("/v1/chat/completions", busy, busy, json_answer(COMPLETION))

    client.with_options(max_retries=2).chat.completions.create(**CALL)

    assert len(server.requests) == 3
    assert recorder.only()["input_tokens"] == 19


def test_a_server_that_is_not_there_gives_one_event(client: OpenAI, recorder: Recorder) -> None:
    with pytest.raises(openai.APIConnectionError):
        client.with_options(base_url="http://127.0.0.1:9/v1", max_retries=1).chat.completions.create(**CALL)

    assert_ended(recorder.only(), "error", "APIConnectionError")


def test_an_answer_that_the_service_cannot_use_still_counts(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", json_answer(COMPLETION))

    with pytest.raises(ValueError, match="number"):
        client.chat.completions.parse(**CALL, response_format=Number)

    event = recorder.only()
    assert_ended(event, "error", "ValidationError")
    assert (event["input_tokens"], event["output_tokens"]) == (19, 10)


def test_a_stream_that_is_left_early_is_cancelled_and_estimated(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks(words=("one ",) * 8)))

    with client.chat.completions.create(**CALL, stream=True) as stream:
        for _ in zip(range(5), stream, strict=False):
            pass

    event = recorder.only()
    assert_ended(event, "cancelled", "GeneratorExit")
    assert event["estimated"]
    assert 0 < event["output_tokens"] < 10
    assert event["input_tokens"] > 0
    assert event["event_id"] == f"openai/{COMPLETION['id']}"


def test_a_stream_that_is_closed_unread_gives_one_event(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))

    client.chat.completions.create(**CALL, stream=True).close()

    event = recorder.only()
    assert_ended(event, "cancelled", "GeneratorExit")
    assert event["estimated"]
    assert event["input_tokens"] > 0


@pytest.mark.parametrize("read", [0, 2])
def test_a_stream_that_is_dropped_gives_one_event(
    client: OpenAI, server: ModelServer, recorder: Recorder, read: int
) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))

    stream = client.chat.completions.create(**CALL, stream=True)
    for _ in range(read):
        next(stream)
    assert recorder.events == []
    del stream
    gc.collect()

    assert_ended(recorder.only(), "cancelled", "GeneratorExit")


def test_a_raw_stream_that_nobody_parses_gives_one_event(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))

    raw = client.chat.completions.with_raw_response.create(**CALL, stream=True)
    raw.http_response.close()
    del raw
    gc.collect()

    assert_ended(recorder.only(), "cancelled", "GeneratorExit")


def test_a_response_that_was_read_can_be_kept(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", json_answer(COMPLETION))

    with client.chat.completions.with_streaming_response.create(**CALL) as response:
        response.read()
        kept = pickle.loads(pickle.dumps(response.http_response))
        copied = copy.deepcopy(response.http_response)

    assert kept.json() == copied.json() == COMPLETION
    assert recorder.only()["input_tokens"] == 19


LEFT_OPEN = {
    "stream": "opened = client.chat.completions.create(**call, stream=True); next(opened)",
    "raw": "opened = client.chat.completions.with_raw_response.create(**call, stream=True)",
    "body": "manager = client.chat.completions.with_streaming_response.create(**call)\nopened = manager.__enter__()",
    "lazy": ("opened = instrument(ollama.Client(host=url), tracker).chat(**call, stream=True); next(opened)"),
    "generator": (
        "opened = meter(provider='acme', model='m', producer=tracker)(lambda: (yield 1))\n"
        "opened = opened(); next(opened)"
    ),
}
PROCESS = """
import sys
import ollama
from openai import OpenAI
from tokentide.producers import UsageProducer, instrument, meter
producer = UsageProducer(broker="memory://")
class Tracker:
    def track(self, **fields):
        print(fields["status"], producer.track(**fields), flush=True)
url, tracker = sys.argv[1], Tracker()
call = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}
client = instrument(OpenAI(api_key="none", base_url=url + "/v1", max_retries=0), tracker)
"""


@pytest.mark.parametrize("left", LEFT_OPEN.values(), ids=LEFT_OPEN)
def test_what_is_open_at_the_end_of_the_process_gives_one_event(server: ModelServer, left: str) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))
    line = b'{"model": "gpt-4.1", "message": {"role": "assistant", "content": "a"}, "done": false}\n'
    server.answer("/api/chat", Answer([line, line], content_type="application/x-ndjson"))

    done = subprocess.run(
        [sys.executable, "-c", PROCESS + left, server.url],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert done.stdout == "cancelled True\n"


FORKING = """
import os
stream = client.chat.completions.create(**call, stream=True)
next(stream)
child = os.fork()
if child == 0:
    del stream
    sys.exit(0)
os.waitpid(child, 0)
list(stream)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_that_is_forked_leaves_the_streams_of_its_parent_alone(server: ModelServer) -> None:
    """Its event would come first, with what was read so far, and the whole one would count as its repetition."""
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))
    script = PROCESS.replace('fields["status"]', 'fields.get("output_tokens")') + FORKING

    done = subprocess.run(
        [sys.executable, "-c", script, server.url], capture_output=True, text=True, check=True, timeout=30
    )

    assert done.stdout == "10 True\n"


def test_a_body_that_is_not_read_gives_one_event(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", json_answer(COMPLETION))

    with client.chat.completions.with_streaming_response.create(**CALL) as response:
        assert response.status_code == 200

    assert_ended(recorder.only(), "cancelled", "GeneratorExit")


def test_a_stream_goes_on_after_a_pause(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))
    stream = client.chat.completions.create(**CALL, stream=True)

    for _ in stream:
        break
    rest = list(stream)

    assert len(rest) == 3
    assert recorder.only()["output_tokens"] == 10
    assert "status" not in recorder.only()


def test_a_stream_that_breaks_off_is_an_error(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()[:2], done=False, breaks_off=True))

    with pytest.raises(openai.APIConnectionError):
        list(client.chat.completions.create(**CALL, stream=True))

    event = recorder.only()
    assert_ended(event, "error", "APIConnectionError")
    assert event["estimated"]


def test_an_error_inside_a_stream_is_an_error(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    chunks = [*chat_chunks()[:2], {"error": {"message": "A secret", "type": "server_error", "code": None}}]
    server.answer("/v1/chat/completions", sse_answer(chunks))

    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(**CALL, stream=True))

    assert_ended(recorder.only(), "error", "APIError")


def test_an_error_behind_the_finish_reason_comes_after_it(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    chunks = [*chat_chunks(usage=False), {"error": {"message": "late", "type": "server_error"}}]
    server.answer("/v1/chat/completions", sse_answer(chunks))
    stream = client.chat.completions.create(**CALL, stream=True)

    seen = [next(stream) for _ in range(4)]
    with pytest.raises(openai.APIError):
        next(stream)

    assert seen[-1].choices[0].finish_reason == "stop"
    assert_ended(recorder.only(), "error", "APIError")


def test_many_threads_share_a_client(client: OpenAI, server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/chat/completions", json_answer(COMPLETION))
    threads = [threading.Thread(target=lambda: client.chat.completions.create(**CALL)) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(recorder.events) == 8


def run_async(server: ModelServer, recorder: Recorder, act: Callable[[AsyncOpenAI], Awaitable[None]]) -> None:
    """Run the coroutine function with a metered asynchronous client."""

    async def main() -> None:
        http = DefaultAsyncHttpxClient(verify=False)
        async with AsyncOpenAI(
            api_key="none", base_url=f"{server.url}/v1", max_retries=0, http_client=http
        ) as client:
            await act(instrument(client, recorder))

    asyncio.run(main())


def test_an_async_call_gives_one_event(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/chat/completions", json_answer(COMPLETION))

    async def act(client: AsyncOpenAI) -> None:
        await client.chat.completions.create(**CALL)
        await client.with_options(timeout=3).chat.completions.create(**CALL)
        raw = await client.chat.completions.with_raw_response.create(**CALL)
        assert raw.parse().id == COMPLETION["id"]
        async with client.chat.completions.with_streaming_response.create(**CALL) as response:
            assert (await response.parse()).id == COMPLETION["id"]

    run_async(server, recorder, act)

    assert [event["input_tokens"] for event in recorder.events] == [19, 19, 19, 19]


def test_an_async_stream_gives_one_event(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))

    async def act(client: AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(**CALL, stream=True)
        assert len([chunk async for chunk in stream]) == 4
        raw = await client.chat.completions.with_raw_response.create(**CALL, stream=True)
        assert len([chunk async for chunk in raw.parse()]) == 4
        async with client.chat.completions.stream(**CALL) as helper:
            assert (await helper.get_final_completion()).choices[0].message.content == "Hello"
        async with client.chat.completions.with_streaming_response.create(
            **CALL, stream=True, stream_options={"include_usage": True}
        ) as response:
            assert [line async for line in response.iter_lines()][-1] == ""
        stream = await client.chat.completions.create(**CALL, stream=True)
        async for chunk in stream:
            if chunk.choices[0].finish_reason:
                break
        await stream.close()

    run_async(server, recorder, act)

    assert [event["output_tokens"] for event in recorder.events] == [10] * 5
    assert all("status" not in event and "ttft_ms" in event for event in recorder.events)


def test_a_cancelled_call_gives_one_event(server: ModelServer, recorder: Recorder) -> None:
    never = threading.Event()
    server.answer("/v1/chat/completions", Answer([b"{}"], release=never))

    async def act(client: AsyncOpenAI) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.chat.completions.create(**CALL)

    run_async(server, recorder, act)

    event = recorder.only()
    assert_ended(event, "cancelled", "CancelledError")
    assert "input_tokens" not in event


def test_a_task_cancelled_inside_a_stream_gives_one_event(server: ModelServer, recorder: Recorder) -> None:
    never = threading.Event()
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()[:3], done=False, release=never))
    seen: list[Any] = []

    async def act(client: AsyncOpenAI) -> None:
        async def consume() -> None:
            async for chunk in await client.chat.completions.create(**CALL, stream=True):
                seen.append(chunk)

        task = asyncio.create_task(consume())
        while len(seen) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_async(server, recorder, act)

    event = recorder.only()
    assert_ended(event, "cancelled", "CancelledError")
    assert event["estimated"]


def test_an_async_stream_that_is_left_or_closed_gives_one_event(
    server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))

    async def act(client: AsyncOpenAI) -> None:
        async with await client.chat.completions.create(**CALL, stream=True) as stream:
            async for _ in stream:
                break
        assert len(recorder.events) == 1
        await (await client.chat.completions.create(**CALL, stream=True)).close()

    run_async(server, recorder, act)

    assert len(recorder.events) == 2
    for event in recorder.events:
        assert_ended(event, "cancelled", "GeneratorExit")


def test_an_async_error_gives_one_event(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/chat/completions", json_answer({"error": {"message": "A secret"}}, status=429))

    async def act(client: AsyncOpenAI) -> None:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**CALL)

    run_async(server, recorder, act)

    event = recorder.only()
    assert_ended(event, "error", "RateLimitError")
    assert event["error_message"] == "HTTP 429"
