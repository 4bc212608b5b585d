"""The corpus of those who do not answer like OpenAI."""

import pytest
from support.golden import Payload, payloads

CORPUS = list(payloads("anthropic", "google", "aws", "cohere", "ollama", "mistral", "litellm", "langchain"))


@pytest.mark.parametrize("payload", CORPUS, ids=lambda payload: f"{payload.file}: {payload.name}")
def test_an_answer_is_read_as_worked_out_by_hand(payload: Payload) -> None:
    assert payload.differences(payload.extracted()) == {}
