"""An independent judge of the corpus: the extractors of genai-prices, wherever they have one.

They are asked about whole answers only, and about counts of tokens, searches and pages.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from genai_prices import extract_usage
from support.golden import Payload, payloads

JUDGES = {
    "anthropic/messages": ("anthropic", "default"),
    "google/generate": ("google", "default"),
    "aws/converse": ("aws", "default"),
    "cohere/cohere": ("cohere", "default"),
    "mistral/ocr": ("mistral", "ocr"),
}
NAMES = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "input_image_tokens": "input_image_tokens",
    "cache_audio_read_tokens": "cache_audio_read_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "output_image_tokens": "output_image_tokens",
    "web_searches": "web_searches",
    "pages": "input_document_pages",
}
DIFFERENT: dict[str, str] = {}
CORPUS = [each for each in payloads("anthropic", "google", "aws", "cohere", "mistral") if each.file in JUDGES]


def judged(payload: Payload) -> Mapping[str, Any]:
    """What genai-prices says of the payload, in our names."""
    provider, flavor = JUDGES[payload.file]
    usage = extract_usage(payload.response, provider_id=provider, api_flavor=flavor).usage
    return {ours: getattr(usage, theirs, None) or 0 for ours, theirs in NAMES.items()}


@pytest.mark.parametrize("payload", CORPUS, ids=lambda payload: f"{payload.file}: {payload.name}")
def test_genai_prices_agrees(payload: Payload) -> None:
    usage = payload.extracted()
    verdict = judged(payload)
    assert {name: (getattr(usage, name), v) for name, v in verdict.items() if getattr(usage, name) != v} == {}
