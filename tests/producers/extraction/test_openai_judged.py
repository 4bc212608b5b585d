"""genai-prices as an independent judge: where it reads an answer too, it reads the same, or we say why not."""

from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage as Judged
from genai_prices import calc_price, extract_usage
from support.golden import Payload, payloads

from tokentide.producers.usage import Usage

COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_audio_read_tokens": "cache_audio_read_tokens",
    "output_reasoning_tokens": "reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "input_image_tokens": "input_image_tokens",
    "output_image_tokens": "output_image_tokens",
    "audio_seconds": "audio_seconds",
    "web_searches": "web_searches",
}
FLAVOURS = {"embeddings": ["embeddings"], "image": ["images"], "transcription": ["live", "realtime"]}

NO_DETAIL = "the judge has no rule for this detail; it is in the SDK's type"
BROKEN = "the answer contradicts itself: we cut it and say `inconsistent`"
DIFFERENT = {
    "images in the prompt": NO_DETAIL,
    "an image in the prompt": NO_DETAIL,
    "Cerebras": NO_DETAIL + " (prompt_tokens_details.cached_tokens)",
    "DeepSeek: hits and misses are the prompt": NO_DETAIL + " (prompt_cache_hit_tokens)",
    "Moonshot, cached_tokens beside the sums": NO_DETAIL + " (cached_tokens)",
    "OpenRouter, a picture is output": NO_DETAIL + " (completion_tokens_details.image_tokens)",
    "OpenRouter, searches of a server tool": NO_DETAIL + " (server_tool_use)",
    "LiteLLM's proxy in front of Claude: all is inside already": NO_DETAIL + " (prompt_tokens_details)",
    "Mistral, sound is paid by the second and stands in the sum": NO_DETAIL + " (prompt_audio_seconds)",
    "Mistral's Voxtral: seconds beside tokens": NO_DETAIL + " (prompt_audio_seconds)",
    "searches; opening a page is none": "the judge reads the usage object, searches stand in the output",
    "searches as OpenAI bills them": "the judge reads the usage object, searches stand in tool_usage",
    "responses: reasoning is inside, searches are reported": NO_DETAIL + " (server_side_tool_usage_details)",
    "stream with a call, said three times and counted once": "searches stand in the output",
    "gpt-image-1: tokens": "without details all output is picture, as its type says: its rate is another",
    "gpt-image, two pictures": "without details all output is picture, as its type says: its rate is another",
    "tokens of another model that wrote SVG are not ours to price": "without details all output is picture",
    "gpt-image: auto leaves size and quality open": "without details all output is picture",
    "stream: partial pictures are part of the price of the finished one": "without details all is picture",
    "an edit, streamed": "without details all output is picture",
    "gpt-4o-mini-tts as events: tokens, the output is sound": "without details all output is sound",
    "a gateway has folded the reasoning in: the sum says so": "the judge adds it again, against the sum",
    "Perplexity deep research: reasoning and citations are beside the sum": (
        "the judge takes citations for output; Perplexity bills them at the rate of input (a test below)"
    ),
    "Perplexity, citations that are not billed": "the judge bills them as output; only deep research pays them",
    "a number of thousands of megatokens is not believed": BROKEN,
    "a fraction of a token is rounded up and doubted": BROKEN,
    "more cached than there is input": BROKEN,
    "more reasoning than output, and the sum says it is inside": BROKEN,
}


def judge(payload: Payload, usage: Usage) -> Judged | None:
    """What the judge reads in the answer, or in the chunk that has the usage; None when it cannot read it."""
    answers: list[Any] = [payload.response] if payload.chunks is None else payload.chunks
    for answer in reversed([each for each in answers if isinstance(each, dict)]):
        inner = answer.get("response", answer)
        flavours = FLAVOURS.get(usage.api_operation, [usage.api_operation, "default"])
        for flavour in ["realtime"] if inner.get("object") == "realtime.response" else flavours:
            asked = {"response": inner} if flavour == "realtime" else inner
            try:
                found = extract_usage(
                    {"model": usage.model, **asked}, provider_id=usage.provider, api_flavor=flavour
                )
            except (LookupError, ValueError, TypeError):
                continue
            if found.usage != Judged():
                return found.usage
    return None


CORPUS = list(payloads("openai"))
JUDGED = [(payload, judged) for payload in CORPUS if (judged := judge(payload, payload.extracted()))]


def differences(usage: Usage, judged: Judged) -> dict[str, tuple[Any, Any]]:
    """By count: what we read, and what the judge read."""
    found = {}
    for name, ours in COUNTS.items():
        try:
            theirs = getattr(judged, name)
        except ValueError:  # it cannot tell without a detail that the answer lacks
            continue
        if theirs is not None and theirs != getattr(usage, ours):
            found[ours] = (getattr(usage, ours), theirs)
    return found


def test_the_judge_reads_most_of_what_reports_usage() -> None:
    reported = [payload for payload in CORPUS if payload.extracted().raw_usage]

    assert len(JUDGED) > 0.6 * len(reported)


@pytest.mark.parametrize(
    ("payload", "judged"), JUDGED, ids=[f"{payload.file}: {payload.name}" for payload, _ in JUDGED]
)
def test_the_judge_reads_the_same_or_we_say_why_not(payload: Payload, judged: Judged) -> None:
    found = differences(payload.extracted(), judged)

    assert bool(found) == (payload.name in DIFFERENT), found


def test_our_reading_of_deep_research_costs_what_perplexity_says() -> None:
    payload = next(each for each in CORPUS if each.name.startswith("Perplexity deep research"))
    usage = payload.extracted()

    price = calc_price(
        Judged(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
            web_searches=usage.web_searches,
        ),
        usage.model,
        provider_id=usage.provider,
    )

    assert usage.provider_cost_usd == Decimal("0.816")
    assert round(price.total_price, 3) == usage.provider_cost_usd
