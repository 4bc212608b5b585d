"""The corpus of those who do not answer like OpenAI."""

import pytest
from support.golden import GOLDEN, Payload, payloads

CORPUS = list(payloads("anthropic", "google", "aws", "cohere", "ollama", "mistral", "litellm", "langchain"))


@pytest.mark.parametrize("payload", CORPUS, ids=lambda payload: f"{payload.file}: {payload.name}")
def test_an_answer_is_read_as_worked_out_by_hand(payload: Payload) -> None:
    assert payload.differences(payload.extracted()) == {}


def test_the_corpus_has_more_than_200_answers_each_with_its_source() -> None:
    everything = list(payloads(*(folder.name for folder in GOLDEN.iterdir())))

    assert len(everything) > 200
    assert all(payload.source for payload in everything)
    assert len({(payload.file, payload.name) for payload in everything}) == len(everything)
