"""OpenAI and everybody who answers like OpenAI, on the golden corpus."""

import pytest
from support.golden import Payload, payloads

CORPUS = list(payloads("openai"))
STREAMS = [payload for payload in CORPUS if payload.chunks is not None]


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 110
    assert all(payload.source for payload in CORPUS)


@pytest.mark.parametrize("payload", CORPUS, ids=lambda payload: f"{payload.file}: {payload.name}")
def test_what_an_answer_used(payload: Payload) -> None:
    usage = payload.extracted()

    assert payload.differences(usage) == {}
    assert sum(usage.buckets().values()) == usage.input_tokens + usage.output_tokens


@pytest.mark.parametrize("payload", STREAMS, ids=lambda payload: f"{payload.file}: {payload.name}")
def test_a_reader_of_chunks_says_the_same(payload: Payload) -> None:
    assert payload.extracted_by_chunks() == payload.extracted()
