"""The forms in which answers come, and what the seeds got wrong about them, in money."""

import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from botocore.eventstream import EventStream  # type: ignore[import-untyped]
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price
from mistralai.client.models import CompletionEvent
from support.golden import Payload, payloads

from tokentide.producers.extraction import ChunkReader, extract
from tokentide.producers.usage import Usage

EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {"id": "msg_01", "model": "claude-haiku-4-5", "usage": {"input_tokens": 25}},
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}},
]
MILLION = 10**6


def payload_of(name: str) -> Payload:
    """The payload of the corpus that has this name."""
    (found,) = (each for each in payloads("anthropic", "google") if each.name == name)
    return found


def usd(usage: Usage, **usd_per_million: str) -> Decimal:
    """What the buckets cost at these prices."""
    return sum(
        (
            count * Decimal(usd_per_million[name]) / MILLION
            for name, count in usage.buckets().items()
            if count
        ),
        start=Decimal(0),
    )


def test_events_of_bedrock_come_as_bytes() -> None:
    reader = ChunkReader("aws", request={"modelId": "anthropic.claude-haiku-4-5-20251001-v1:0"})

    for event in EVENTS:
        reader.add({"chunk": {"bytes": json.dumps(event).encode()}})

    usage = reader.usage()
    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (25, 15, "exact")
    assert usage.model == "anthropic.claude-haiku-4-5-20251001-v1:0"


@pytest.mark.parametrize("encode", [str, str.encode])
def test_a_whole_event_stream_as_text_is_read(encode: Any) -> None:
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS)

    usage = extract(encode(text), "anthropic")

    assert (usage.input_tokens, usage.output_tokens, usage.finish_reason) == (25, 15, "end_turn")


def test_a_line_of_an_event_stream_ends_where_the_line_ends_and_not_in_its_text() -> None:
    said = {"type": "output_text", "text": "one\u2028two\u0085three\x0c"}
    response = {
        "id": "resp_1",
        "object": "response",
        "model": "gpt-5-mini",
        "output": [{"type": "message", "id": "m", "content": [said]}],
        "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
    }
    event = json.dumps({"type": "response.completed", "response": response}, ensure_ascii=False)

    usage = extract(f"event: response.completed\r\ndata: {event}\r\n\r\n", "openai")

    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (5, 2, "exact")


def test_a_stream_of_nothing_but_text_is_estimated_from_it() -> None:
    request = {"messages": [{"role": "user", "content": "Hello!"}]}

    for provider in ("anthropic", "openai", "google", "aws", "cohere", "ollama"):
        usage = extract(iter(["Hello ", "there, how are you?"]), provider, model="m", request=request)

        assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (2, 7, "estimated")


def test_an_answer_as_json_is_read() -> None:
    payload = payload_of("read and both writes")

    assert extract(json.dumps(payload.response)) == extract(payload.response)


def test_a_stream_that_breaks_is_read_as_far_as_it_came() -> None:
    def broken() -> Iterator[Any]:
        yield EVENTS[0]
        yield EVENTS[1]
        raise ConnectionError("reset by peer")

    usage = extract(broken(), "anthropic")

    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (25, 1, "estimated")


def test_a_stream_of_boto3_is_read_though_it_is_no_iterator() -> None:
    class Stream(EventStream):  # type: ignore[misc]  # botocore has no types
        def __init__(self) -> None:
            pass

        def __iter__(self) -> Iterator[Any]:
            yield {"contentBlockDelta": {"delta": {"text": "Hi"}, "contentBlockIndex": 0}}
            yield {"metadata": {"usage": {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11}}}

    usage = extract(Stream(), "aws", model="amazon.nova-lite-v1:0")

    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (5, 6, "exact")


def test_what_must_be_awaited_is_an_error_and_no_estimate_of_zero() -> None:
    async def answered() -> dict[str, Any]:
        return {"choices": []}

    async def streamed() -> AsyncIterator[dict[str, Any]]:
        yield {"choices": []}

    answer = answered()
    with pytest.raises(ValueError, match="await it first"):
        extract(answer, "openai", model="gpt-4o")
    with pytest.raises(ValueError, match="ChunkReader"):
        extract(streamed(), "openai", model="gpt-4o")
    answer.close()


CHUNKS: list[dict[str, Any]] = [
    {
        "id": "c1",
        "model": "mistral-small-2506",
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
    },
    {
        "id": "c1",
        "model": "mistral-small-2506",
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    },
]


def test_a_stream_of_the_sdk_of_mistral_is_read_though_each_chunk_stands_in_an_event() -> None:
    usage = extract([CompletionEvent.model_validate({"data": chunk}) for chunk in CHUNKS], "mistral")

    assert (usage.model, usage.input_tokens, usage.output_tokens) == ("mistral-small-2506", 5, 2)
    assert (usage.usage_status, usage.finish_reason) == ("exact", "stop")


def test_events_of_the_stream_helper_of_openai_are_read_by_their_chunks() -> None:
    events: list[dict[str, Any]] = [
        {"type": "chunk", "chunk": CHUNKS[0], "snapshot": {}},
        {"type": "content.delta", "delta": "Hi", "snapshot": "Hi"},
        {"type": "chunk", "chunk": CHUNKS[1], "snapshot": {**CHUNKS[1]}},
        {"type": "content.done", "content": "Hi", "parsed": None},
    ]

    usage = extract(events, "openai")

    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (5, 2, "exact")


@pytest.mark.parametrize("first", [{"error": None}, "", "retry: 3000", {"type": "keepalive"}])
@pytest.mark.parametrize("provider", ["openai", "ollama", "google", "aws"])
def test_a_first_chunk_without_a_form_does_not_decide_how_the_others_are_read(
    provider: str, first: Any
) -> None:
    completed = {
        "type": "response.completed",
        "response": {"id": "r", "model": "gpt-5", "usage": {"input_tokens": 5, "output_tokens": 2}},
    }

    for chunks in ([*CHUNKS], [*EVENTS], [completed]):
        assert extract([first, *chunks], provider, model="m").usage_status == "exact"


@pytest.mark.parametrize("provider", ["litellm", "aws"])
def test_a_stream_that_changes_its_form_is_read_without_an_error(provider: str) -> None:
    block = {"type": "tool_use", "name": "f"}
    started = {"type": "content_block_start", "content_block": block}
    called = {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f"}}]}
    chunks: list[dict[str, Any]] = [started, {"choices": [{"index": 0, "delta": called}]}, *CHUNKS]

    for order in (chunks, chunks[::-1]):
        wrapped = [{"chunk": {"bytes": json.dumps(chunk)}} for chunk in order]
        usage = extract(wrapped if provider == "aws" else order, provider, model="m")

        assert (usage.input_tokens, usage.output_tokens) == (5, 2)


def test_names_that_we_keep_for_ourselves_mean_nothing_in_a_batch() -> None:
    message = {**EVENTS[0]["message"], "type": "message", "_tool_calls": "x", "_unfinished": True}
    completion = {**CHUNKS[1], "_tool_calls": 5, "_finish_reason": 5}

    claude = extract({"custom_id": "a", "result": {"type": "succeeded", "message": message}})
    gpt = extract({"custom_id": "a", "response": {"body": completion}})

    assert (claude.tool_calls, gpt.tool_calls, gpt.finish_reason) == (0, 0, "stop")


def test_a_body_of_bedrock_that_nobody_read_stays_readable() -> None:
    class Body:
        def read(self) -> bytes:
            raise AssertionError("the body is the caller's")

    answer = {
        "ResponseMetadata": {"HTTPHeaders": {"x-amzn-bedrock-input-token-count": "3"}},
        "body": Body(),
    }

    usage = extract(answer, "aws", model="anthropic.claude-haiku-4-5-20251001-v1:0")

    assert usage.input_tokens == 3
    assert usage.estimated


def test_a_cached_token_of_gemini_is_paid_once() -> None:
    usage = payload_of("cached content is inside the prompt").extracted()

    price = calc_price(
        PricedUsage(input_tokens=10000, cache_read_tokens=9000, output_tokens=50),
        "gemini-2.5-flash",
        provider_id="google",
    )
    # 1,000 plain, 9,000 cached and 50 output tokens; seed 004 pays the 9,000 at both prices, 5x as much.
    assert (
        usd(usage, input="0.3", cache_read="0.03", output="2.5") == price.total_price == Decimal("0.000695")
    )


def test_a_cache_write_of_claude_is_not_free() -> None:
    usage = payload_of("cache write of five minutes is not free").extracted()

    paid = usd(usage, input="3", cache_write="3.75", output="15")
    free = usd(usage, input="3", cache_write="0", output="15")
    # 21 x 3 + 188,086 x 3.75 + 393 x 15 = 711,280.5 USD of a million calls; without writes it is 5,958.
    assert (paid, free) == (Decimal("0.7112805"), Decimal("0.005958"))


def test_input_of_claude_is_more_than_its_input_tokens() -> None:
    usage = payload_of("cache read is beside input").extracted()

    assert usage.input_tokens == 100050
    assert usage.raw_usage["input_tokens"] == 50


@pytest.mark.slow
def test_objects_of_litellm_say_who_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm  # takes three seconds

    answer = litellm.completion(
        model="xai/grok-4-fast-reasoning",
        messages=[{"role": "user", "content": "Hello"}],
        mock_response="Hi there",
    )

    usage = extract(answer)
    assert (usage.provider, usage.model, usage.usage_status) == ("x-ai", "grok-4-fast-reasoning", "exact")


def test_a_stream_that_can_be_read_either_way_is_read() -> None:
    class Stream:
        """As LiteLLM's CustomStreamWrapper."""

        def __init__(self) -> None:
            self._chunks = iter(CHUNKS)

        def __iter__(self) -> Iterator[Any]:
            return self

        def __next__(self) -> Any:
            return next(self._chunks)

        def __aiter__(self) -> AsyncIterator[Any]:
            raise AssertionError("nobody waits here")

        async def __anext__(self) -> Any:
            raise AssertionError("nobody waits here")

    usage = extract(Stream(), "litellm", model="mistral/mistral-small-2506")

    assert (usage.provider, usage.input_tokens, usage.usage_status) == ("mistral", 5, "exact")


def test_a_stream_of_gemini_that_broke_off_after_counting_only_its_prompt_is_an_estimate() -> None:
    said = {"content": {"role": "model", "parts": [{"text": "Hello, how are you?"}]}, "index": 0}
    counted = {"promptTokenCount": 100, "totalTokenCount": 100}
    reader = ChunkReader("google", model="gemini-2.5-flash")

    reader.add({"candidates": [said], "modelVersion": "gemini-2.5-flash", "usageMetadata": counted})

    usage = reader.usage()
    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (100, 5, "estimated")
