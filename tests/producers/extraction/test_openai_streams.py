"""Every provider's chat as a stream: with a usage chunk, without one, and cut anywhere."""

from typing import Any

import pytest
from support.golden import Payload, payloads

from tokentide.producers.extraction import ChunkReader, extract
from tokentide.producers.usage import Usage

CORPUS = list(payloads("openai"))
STREAMS = [payload for payload in CORPUS if payload.chunks]
CHATS = [
    payload
    for payload in CORPUS
    if isinstance(payload.response, dict)
    and payload.response.get("usage")
    and payload.response.get("choices")
]


def name_of(payload: Payload) -> str:
    """The name of a test."""
    return f"{payload.file}: {payload.name}"


def streamed(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer in three chunks, the last of which has the usage and no choices."""
    facts = {key: value for key, value in answer.items() if key not in ("usage", "choices")}
    deltas = [
        {**choice, "delta": choice.get("message", {}), "finish_reason": None} for choice in answer["choices"]
    ]
    ends = [
        {"index": choice.get("index", 0), "delta": {}, "finish_reason": choice.get("finish_reason")}
        for choice in answer["choices"]
    ]
    for delta in deltas:
        delta.pop("message", None)
    return [
        {**facts, "choices": deltas, "usage": None},
        {**facts, "choices": ends, "usage": None},
        {**facts, "choices": [], "usage": answer["usage"]},
    ]


@pytest.mark.parametrize("payload", CHATS, ids=name_of)
def test_a_streamed_answer_says_what_the_whole_one_says(payload: Payload) -> None:
    assert extract(streamed(payload.response), **payload.call) == payload.extracted()


@pytest.mark.parametrize("payload", CHATS, ids=name_of)
def test_without_its_usage_chunk_the_answer_is_estimated(payload: Payload) -> None:
    call = {**payload.call, "request": {"messages": [{"role": "user", "content": "x" * 40}]}}

    usage = extract(streamed(payload.response)[:2], **{"provider": "openai", "model": "m", **call})

    assert (usage.usage_status, usage.input_tokens) == ("estimated", 10)
    assert usage.provider_cost_usd is None
    assert usage.raw_usage == {}


@pytest.mark.parametrize("payload", STREAMS, ids=name_of)
def test_a_stream_may_break_off_anywhere(payload: Payload) -> None:
    call = {"provider": "openai", "model": "m", **payload.call}
    reader = ChunkReader(**call)
    read: list[Usage] = [reader.usage()] if "api_operation" in call else []

    for chunk in payload.chunks or ():
        reader.add(chunk)
        read.append(reader.usage())

    assert all(usage.buckets()["output"] >= 0 for usage in read)
    assert all(usage.estimated or usage.raw_usage or usage.input_characters for usage in read)


def test_a_stream_that_ends_with_an_error_is_read_so_far() -> None:
    def chunks() -> Any:
        yield {
            "id": "chatcmpl-x1",
            "model": "gpt-4o",
            "choices": [{"index": 0, "delta": {"content": "four"}}],
        }
        raise ConnectionError("reset")

    usage = extract(chunks(), "openai")

    assert (usage.output_tokens, usage.usage_status) == (1, "estimated")


def test_of_the_text_only_its_length_is_kept() -> None:
    reader = ChunkReader("openai", model="gpt-4o")

    reader.add({"choices": [{"index": 0, "delta": {"content": "a secret", "reasoning_content": "a secret"}}]})
    reader.add({"type": "response.output_text.delta", "delta": "a secret"})

    assert "secret" not in repr(vars(reader))
