"""What holds for each answer, whatever is in it: of the corpus, cut anywhere, and made up."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.golden import Payload, payloads

from tokentide.producers.extraction import ChunkReader, extract
from tokentide.producers.usage import Usage
from tokentide.schemas import UsageEvent

CORPUS = list(payloads("anthropic", "google", "aws", "cohere", "ollama", "mistral", "litellm", "langchain"))
STREAMS = [each for each in CORPUS if each.chunks is not None]
NOW = datetime(2026, 11, 1, tzinfo=UTC)
SECRET = "the text of somebody"

numbers = st.none() | st.integers(-5, 10**10) | st.floats() | st.sampled_from(["12", "x", "", "1e999"])
junk = st.recursive(
    numbers | st.booleans() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def named(payload: Payload) -> str:
    """Where the payload stands in the corpus."""
    return f"{payload.file}: {payload.name}"


def check(usage: Usage) -> None:
    """The usage adds up, and is one that a pipeline accepts."""
    event = UsageEvent(timestamp=NOW, **usage.fields())
    buckets = usage.buckets()

    assert min(buckets.values()) >= 0
    assert sum(buckets.values()) == event.total_tokens
    assert usage.estimated or usage.raw_usage or usage.images or event.input_tokens == 0
    assert len(json.dumps(dict(usage.raw_usage), default=str).encode()) <= 5000


def answers(payload: Payload) -> Iterator[Any]:
    """The answer, or each chunk of it."""
    yield from [payload.response] if payload.chunks is None else payload.chunks


@pytest.mark.parametrize("payload", CORPUS, ids=named)
def test_each_answer_makes_an_event(payload: Payload) -> None:
    check(payload.extracted())


@pytest.mark.parametrize("payload", STREAMS, ids=named)
def test_a_stream_can_be_cut_anywhere(payload: Payload) -> None:
    reader = ChunkReader(**{"model": "m", **payload.call})
    check(reader.usage())

    for chunk in payload.chunks or ():
        reader.add(chunk)
        check(reader.usage())


@pytest.mark.parametrize("payload", STREAMS, ids=named)
def test_a_chunk_reader_reads_like_extract(payload: Payload) -> None:
    assert payload.extracted_by_chunks() == payload.extracted()


def spoken(value: Any) -> Any:
    """The chunk with another text wherever a model speaks."""
    if isinstance(value, dict):
        texts = ("text", "content", "thinking", "response", "outputText", "partial_json")
        return {
            name: SECRET if name in texts and isinstance(each, str) else spoken(each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [spoken(each) for each in value]
    return value


@pytest.mark.parametrize("payload", STREAMS, ids=named)
def test_no_text_of_a_stream_is_kept(payload: Payload) -> None:
    reader = ChunkReader(**payload.call)

    for chunk in payload.chunks or ():
        reader.add(spoken(chunk))

    assert SECRET not in repr(vars(reader)["_answer"])


def spoilt(value: Any, draw: st.DrawFn) -> Any:
    """The answer with other values in some places."""
    if isinstance(value, dict):
        return {name: spoilt(each, draw) for name, each in value.items()}
    if isinstance(value, list):
        return [spoilt(each, draw) for each in value]
    if isinstance(value, int | float):
        return draw(numbers)
    return draw(junk) if draw(st.integers(0, 19)) == 0 else value


@st.composite
def spoilt_payloads(draw: st.DrawFn) -> tuple[Payload, list[Any]]:
    """A payload of the corpus, and its chunks with numbers that no provider would say."""
    payload = draw(st.sampled_from(CORPUS))
    return payload, [spoilt(each, draw) for each in answers(payload)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spoilt_payloads())
def test_whatever_a_provider_says_adds_up(spoilt: tuple[Payload, list[Any]]) -> None:
    payload, chunks = spoilt
    # Without its form only a name tells how to read an answer; that there is none then is a ValueError.
    call = {"model": "m", "provider": payload.expected["provider"], **payload.call}

    usage = extract(chunks[0] if payload.chunks is None else chunks, **call)

    event = UsageEvent(timestamp=NOW, **usage.fields())
    assert sum(usage.buckets().values()) == event.total_tokens
    assert min(usage.buckets().values()) >= 0
