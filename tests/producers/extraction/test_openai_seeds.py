"""What the seeds got wrong, and what this makes of it."""

import json
from decimal import Decimal

import pytest
from genai_prices import Usage as Priced
from genai_prices import calc_price

from tokentide.producers.extraction import ChunkReader, extract

CACHED = {
    "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920},
    },
}


def test_cached_tokens_are_charged_once() -> None:
    """Seed 004: `input * price + cached * cached price`, though the cached ones are inside the input."""
    usage = extract(CACHED)
    buckets = usage.buckets()
    per_mtok = {"input": Decimal("2.5"), "cache_read": Decimal("1.25"), "output": Decimal(10)}

    cost = sum(buckets[name] * rate for name, rate in per_mtok.items()) / 1_000_000

    judged = calc_price(
        Priced(input_tokens=2006, output_tokens=300, cache_read_tokens=1920), "gpt-4o", provider_id="openai"
    )
    assert cost == judged.total_price == Decimal("0.005615")
    assert (2006 * per_mtok["input"] + 1920 * per_mtok["cache_read"] + 300 * 10) / 1_000_000 > cost


def test_missing_usage_is_no_zero() -> None:
    """Seeds 002 and 004: `usage?.prompt_tokens || 0`: a stream without usage would be free."""
    reader = ChunkReader("openai", request={"model": "gpt-4o", "messages": [{"content": "x" * 400}]})
    reader.add({"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "y" * 200}}]})

    usage = reader.usage()

    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (100, 50, "estimated")


@pytest.mark.parametrize("provider", ["openai", "cerebras", "together"])
def test_totals_come_from_the_parts(provider: str) -> None:
    """Seed 000 keeps `total_tokens` beside the parts, and believes it: here a wrong sum is said to be one."""
    wrong = json.loads(json.dumps(CACHED))
    wrong["usage"]["total_tokens"] = 9999

    assert extract(CACHED, provider).usage_status == "exact"
    assert extract(wrong, provider).usage_status == "inconsistent"


def test_speech_and_pictures_are_no_tokens() -> None:
    """Seed 000 counts "tokens" of TTS and DALL-E, seed 002 has no unit for them."""
    speech = extract(b"ID3", "openai", api_operation="speech", request={"model": "tts-1", "input": "Hello"})
    picture = extract({"data": [{"url": "https://example.com/1.png"}]}, request={"model": "dall-e-3", "n": 1})

    assert (speech.input_characters, speech.input_tokens, speech.usage_status) == (5, 0, "exact")
    assert (picture.images, picture.image_size, picture.image_quality) == (1, "1024x1024", "standard")
    assert (picture.input_tokens, picture.usage_status) == (0, "exact")
