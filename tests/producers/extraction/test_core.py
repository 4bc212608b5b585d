"""From what was said to a Usage."""

import subprocess
import sys
from decimal import Decimal, Inexact, localcontext
from typing import Any

import pytest

from tokentide.producers.extraction import ChunkReader, extract
from tokentide.producers.extraction.core import usage_of
from tokentide.producers.extraction.reading import Call, Reading
from tokentide.producers.usage import Usage, event_id_of
from tokentide.schemas import UsageEvent

CALL = Call("openai", "gpt-4o", "chat")


def said(**counts: int | Decimal) -> Usage:
    """The usage of an answer with these counts."""
    return usage_of(Reading(counts={"input_tokens": 0, "output_tokens": 0, **counts}, raw={"x": 1}), CALL)


def event_of(usage: Usage) -> UsageEvent:
    """The event that a producer makes of the usage."""
    return UsageEvent.model_validate({"timestamp": "2026-11-01T00:00:00Z", **usage.fields()}, strict=False)


def test_counts_that_agree_are_exact() -> None:
    usage = said(input_tokens=100, output_tokens=20, cache_read_tokens=60, reasoning_tokens=5)

    assert usage.usage_status == "exact"
    assert {name: count for name, count in usage.buckets().items() if count} == {
        "input": 40,
        "cache_read": 60,
        "output": 15,
        "reasoning": 5,
    }


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ({"input_tokens": -5, "output_tokens": 3}, {"input_tokens": 0, "output_tokens": 3}),
        ({"input_tokens": 10, "cache_read_tokens": 12}, {"input_tokens": 10, "cache_read_tokens": 10}),
        (
            {"input_tokens": 10, "cache_read_tokens": 8, "cache_write_tokens": 5, "cache_write_1h_tokens": 4},
            {"cache_read_tokens": 8, "cache_write_tokens": 2, "cache_write_1h_tokens": 2},
        ),
        ({"output_tokens": 10, "reasoning_tokens": 11}, {"output_tokens": 10, "reasoning_tokens": 10}),
        ({"input_tokens": Decimal("10.2")}, {"input_tokens": 11}),
        ({"input_tokens": 10**9 + 1}, {"input_tokens": 0}),
    ],
)
def test_counts_that_contradict_themselves_are_cut_and_said_to_be_inconsistent(
    counts: dict[str, int | Decimal], kept: dict[str, int]
) -> None:
    usage = said(**counts)

    assert usage.usage_status == "inconsistent"
    assert {name: getattr(usage, name) for name in kept} == kept
    event_of(usage)


def test_a_total_that_is_not_the_sum_is_inconsistent() -> None:
    reading = Reading(counts={"input_tokens": 10, "output_tokens": 5}, raw={"x": 1}, total=16)

    assert usage_of(reading, CALL).usage_status == "inconsistent"


def test_without_usage_the_texts_are_estimated() -> None:
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 41}]}

    usage = extract({"choices": [{"message": {"content": "y" * 9}}]}, "openai", request=request)

    assert (usage.input_tokens, usage.output_tokens) == (11, 3)
    assert (usage.estimated, usage.usage_status) == (True, "estimated")
    assert event_of(usage).estimated


def test_fields_make_an_event() -> None:
    usage = said(input_tokens=100, output_tokens=20)

    fields = usage.fields()

    assert fields == {
        "provider": "openai",
        "model": "gpt-4o",
        "api_operation": "chat",
        "request_model": "gpt-4o",
        "input_tokens": 100,
        "output_tokens": 20,
        "metadata": {"usage_status": "exact", "raw_usage": {"x": 1}},
    }
    assert event_of(usage).total_tokens == 120


def test_the_providers_own_object_is_kept_in_4_kib() -> None:
    raw: dict[str, Any] = {"prompt_tokens": 1, "log": "x" * 5000, "completion_tokens": 2, "more": ["ü"] * 500}

    usage = usage_of(Reading(counts={"input_tokens": 1, "output_tokens": 2}, raw=raw), CALL)

    assert list(usage.raw_usage) == ["prompt_tokens", "completion_tokens", "more"]


def test_an_object_of_the_provider_that_is_nested_without_end_makes_an_event() -> None:
    nested = "[" * 500 + "]" * 500
    text = '{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "x": ' + nested + "}}"

    usage = extract(text, model="gpt-4o")

    assert UsageEvent.from_wire(event_of(usage).model_dump_json().encode()).input_tokens == 1
    assert usage.raw_usage["prompt_tokens"] == 1


def test_what_nobody_knows_is_an_error_of_one_sentence() -> None:
    with pytest.raises(ValueError, match="pass provider= and api_operation="):
        extract({"what": "ever"})
    with pytest.raises(ValueError, match="pass model="):
        extract({"choices": []}, "openai")


def test_a_reader_survives_any_chunk() -> None:
    reader = ChunkReader("openai", model="gpt-4o")

    for chunk in (
        None,
        5,
        "data: [DONE]",
        b"\xff",
        object(),
        {"choices": 5},
        {"choices": [None, {"delta": 3}]},
    ):
        reader.add(chunk)

    assert reader.usage().output_tokens == 0


def test_an_event_id_is_of_the_call() -> None:
    assert event_id_of("openai", "chatcmpl-1") == "openai/chatcmpl-1"
    assert event_id_of("openai", "x" * 200) == event_id_of("openai", "x" * 200)
    assert event_id_of("openai", "x" * 200) != event_id_of("openai", "x" * 201)
    assert len(event_id_of("openai", "x" * 200)) <= 128
    assert event_id_of("openai", "a\nb").startswith("openai/sha256-")


def test_reading_answers_imports_no_sdk() -> None:
    heavy = (
        "openai anthropic groq together cerebras mistralai google.genai genai_prices httpx tiktoken litellm"
    )
    script = (
        "import sys; from tokentide.producers.extraction import extract;"
        "extract({'choices': [], 'usage': {'prompt_tokens': 1, 'completion_tokens': 1}}, model='m');"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )

    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "request_",
    [None, 5, "text", {"messages": object()}, {"input": [None, {"text": 3}]}, {"tools": [10**5000]}],
)
def test_a_request_may_be_anything(request_: Any) -> None:
    usage = extract({"choices": []}, "openai", model="gpt-4o", request=request_)

    assert usage.input_tokens == 0


ALTERNATIVES = [{"token": "b", "logprob": -2.0, "bytes": [98]}] * 20
USAGE = {"prompt_tokens": 100, "completion_tokens": 2000, "total_tokens": 2100}


def test_probabilities_of_each_token_hide_no_usage() -> None:
    token = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": ALTERNATIVES}
    choice = {"index": 0, "message": {"content": "a" * 2000}, "logprobs": {"content": [token] * 2000}}

    usage = extract({"model": "gpt-4o", "choices": [choice], "usage": USAGE})

    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (100, 2000, "exact")


def test_probabilities_in_a_message_of_langchain_hide_no_usage() -> None:
    token = {"token": "a", "logprob": -1.0, "top_logprobs": ALTERNATIVES}
    message = {
        "type": "ai",
        "content": "a",
        "response_metadata": {"model_name": "gpt-4o", "logprobs": {"content": [token] * 3000}},
        "usage_metadata": {"input_tokens": 100, "output_tokens": 3000, "total_tokens": 3100},
    }

    usage = extract(message)

    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (100, 3000, "exact")


def test_much_content_hides_no_usage() -> None:
    words = [{"text": "a", "confidence": 0.5}] * 60
    answer = {
        "pages": [{"index": page, "words": words} for page in range(1000)],
        "model": "mistral-ocr-latest",
        "usage_info": {"pages_processed": 1000},
    }

    usage = extract(answer, "mistral")

    assert (usage.pages, usage.usage_status) == (1000, "exact")


@pytest.mark.parametrize(
    "call",
    [{"id": [1], "function": {"name": "f"}}, {"id": {}, "function": {"name": "f"}}],
)
def test_a_call_of_a_tool_whose_id_is_no_text_is_counted(call: dict[str, Any]) -> None:
    answer = {"model": "gpt-4o", "choices": [{"index": [], "message": {"tool_calls": [call]}}]}

    assert extract({**answer, "usage": USAGE}).tool_calls == 1


def test_an_old_call_whose_choice_has_no_number_is_counted() -> None:
    choice = {"index": {}, "message": {"function_call": {"name": "f"}}}

    assert extract({"model": "gpt-4o", "choices": [choice], "usage": USAGE}).tool_calls == 1


@pytest.mark.parametrize(
    ("form", "usage"),
    [
        ({"type": "message"}, {"input_tokens": 10, "cache_read_input_tokens": -4, "output_tokens": 5}),
        ({"type": "message"}, {"input_tokens": -4, "cache_read_input_tokens": 10, "output_tokens": 5}),
        (
            {"stopReason": "x", "output": {}},
            {"inputTokens": 10, "cacheReadInputTokens": -4, "outputTokens": 5},
        ),
        (
            {"stopReason": "x", "output": {}},
            {"inputTokens": -4, "cacheReadInputTokens": 10, "outputTokens": 5},
        ),
        (
            {"object": "interaction"},
            {"total_input_tokens": 10, "total_output_tokens": 5, "total_thought_tokens": -4},
        ),
        ({"message": {}}, {"billed_units": {"input_tokens": 10, "image_tokens": -4, "output_tokens": 5}}),
        (
            {"choices": []},
            {"prompt_tokens": 10, "completion_tokens": 5, "reasoning_tokens": -4, "total_tokens": 11},
        ),
    ],
)
def test_a_number_below_zero_takes_from_no_other_and_is_doubted(
    form: dict[str, Any], usage: dict[str, Any]
) -> None:
    used = extract({**form, "usage": usage}, model="m")

    assert (used.input_tokens, used.output_tokens, used.usage_status) == (10, 5, "inconsistent")


@pytest.mark.parametrize(
    "usage",
    [
        {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": -4},
        {"promptTokenCount": -4, "toolUsePromptTokenCount": 10, "candidatesTokenCount": 5},
    ],
)
def test_a_number_of_gemini_below_zero_takes_from_no_other_and_is_doubted(usage: dict[str, Any]) -> None:
    used = extract({"candidates": [], "usageMetadata": usage}, model="m")

    assert (used.input_tokens, used.output_tokens, used.usage_status) == (10, 5, "inconsistent")


def test_an_estimate_is_no_less_than_what_was_reported_of_it() -> None:
    thinking = {"promptTokenCount": 10, "thoughtsTokenCount": 190, "totalTokenCount": 200}
    said = {"candidates": [{"content": {"parts": [{"text": "Hello"}]}}], "usageMetadata": thinking}
    cached = {"output_tokens": 5, "cache_read_input_tokens": 1000}

    cut = extract([said], "google", model="gemini-2.5-flash")
    part = extract({"type": "message", "usage": cached}, "anthropic", model="claude-haiku-4-5")

    assert (cut.output_tokens, cut.reasoning_tokens, cut.usage_status) == (190, 190, "estimated")
    assert (part.input_tokens, part.cache_read_tokens, part.usage_status) == (1000, 1000, "estimated")


def test_the_precision_that_a_service_sets_for_its_own_sums_changes_no_money() -> None:
    answer = {
        "model": "grok-4",
        "choices": [],
        "usage": {**USAGE, "cost_in_usd_ticks": 123456789123, "seconds": Decimal("1.5")},
    }

    with localcontext() as context:
        context.prec = 6
        context.traps[Inexact] = True
        usage = extract(answer)

    assert usage.provider_cost_usd == Decimal("12.3456789123")


def test_names_that_are_no_text_name_nobody() -> None:
    wrong: dict[str, Any] = {"provider": 5, "model": 5, "api_operation": ["chat"]}

    usage = extract({"candidates": [], "modelVersion": "gemini-2.5-flash"}, **wrong)

    assert (usage.provider, usage.model, usage.api_operation) == ("google", "gemini-2.5-flash", "chat")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "document_url", "document_url": "data:application/pdf;base64," + "A" * 10_000},
        {"type": "input_audio", "input_audio": "A" * 10_000},
        {"type": "input_file", "file_url": "https://example.com/" + "A" * 10_000},
        {"type": "image", "base64": "A" * 10_000},
        {"images": ["A" * 10_000]},
    ],
)
def test_pictures_sounds_and_files_of_a_request_are_not_taken_for_text(part: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello!"}, part]}]

    usage = extract({"choices": []}, "openai", model="gpt-4o", request={"messages": messages})

    assert usage.input_tokens == 2
