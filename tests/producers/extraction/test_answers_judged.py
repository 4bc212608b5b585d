"""An independent judge of the corpus: the extractors of genai-prices, wherever they have one.

They are asked about whole answers only, and about counts of tokens, searches and pages.
"""

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
# Where the judge says something else, or nothing, and why we are right.
DIFFERENT = {
    "writes told by lifetime only": "it misses what only the lifetimes say, and so bills writes as nothing",
    "an hour's write above all writes": "it passes the contradiction on; an event would be rejected",
    "thinking above output": "it passes the contradiction on; an event would be rejected",
    "line of a batch's results": "it wants the message without its line",
    "line of a batch that failed": "it wants a message",
    "compaction stands beside the top level": "it misses the compaction, 180,000 of 203,000 tokens",
    "compaction with a cache of its own": "it misses the compaction",
    "counts as text, from a proxy": "it refuses text",
    "a negative count": "it refuses the answer, of which the input is right",
    "names of the Python SDK": "it wants camelCase",
    "modalities in the Python SDK's names": "it wants camelCase",
    "cached above the prompt": "it passes the contradiction on; an event would be rejected",
    "int64 as text": "it refuses text",
    "Gemini 2.5 pays a grounded prompt once": "it counts no searches of Gemini, though it has their price",
    "Gemini 3 pays each unique query": "it counts no searches of Gemini, though it has their price",
    "Live API's names": "it misses the output, 50 tokens",
    "Interactions API": "it has no extractor for it",
    "Interactions API with searches": "it has no extractor for it",
    "cached within what is billed": "one flavour misses cached_tokens, the other counts what is not billed",
    "tokens when nothing is billed": "it refuses answers without billed_units",
    "chat of version 1": "it has no extractor for it",
    "embeddings of a picture": "it misses the tokens of the picture",
    "embeddings of a picture without tokens": "it wants tokens",
    "embeddings of text and a picture, told apart": "it misses which tokens are of the picture",
    "rerank": "it has no extractor for it",
    "rerank of many documents": "it has no extractor for it",
}
CORPUS = [
    each
    for each in payloads("anthropic", "google", "aws", "cohere", "mistral")
    if each.file in JUDGES and each.chunks is None
]


def objections(payload: Payload) -> dict[str, Any]:
    """What genai-prices says otherwise, by our names; raises ValueError when it refuses the answer."""
    provider, flavor = JUDGES[payload.file]
    flavor = "embeddings" if payload.name.startswith("embeddings") else flavor
    verdict = extract_usage(payload.response, provider_id=provider, api_flavor=flavor).usage
    usage = payload.extracted()
    said = {ours: getattr(verdict, theirs, None) or 0 for ours, theirs in NAMES.items()}
    return {name: count for name, count in said.items() if count != getattr(usage, name)}


def objects_to(payload: Payload) -> bool:
    """Whether genai-prices says otherwise, or refuses the answer."""
    try:
        return objections(payload) != {}
    except ValueError:
        return True


@pytest.mark.parametrize(
    "payload",
    [each for each in CORPUS if each.name not in DIFFERENT],
    ids=lambda payload: f"{payload.file}: {payload.name}",
)
def test_genai_prices_agrees(payload: Payload) -> None:
    assert objections(payload) == {}


@pytest.mark.parametrize("name", DIFFERENT)
def test_genai_prices_differs_where_it_is_said_to(name: str) -> None:
    (payload,) = (each for each in CORPUS if each.name == name)

    assert objects_to(payload)


def test_most_of_the_corpus_is_judged() -> None:
    assert len(CORPUS) - len(DIFFERENT) >= 60
