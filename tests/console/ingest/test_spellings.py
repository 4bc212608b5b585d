"""What other trackers send, read as the fields of a usage event."""

from typing import Any

import pytest

from tokentide.console.ingest.spellings import canonical_fields, spelt_as_sent
from tokentide.schemas import InvalidEventError, UsageEvent


def fields(**sent: Any) -> dict[str, Any]:
    read, _ = canonical_fields(sent)
    return read


@pytest.mark.parametrize(
    ("spelling", "value", "field"),
    [
        ("userId", "u", "user_id"),
        ("teamId", "t", "team_id"),
        ("sessionId", "s", "session_id"),
        ("promptId", "p", "prompt_id"),
        ("runId", "r", "run_id"),
        ("operationId", "o", "operation_id"),
        ("action_type", "vision_refinement", "operation"),
        ("executionType", "prompt_run", "operation"),
        ("execution_type", "preview", "operation"),
        ("modelProvider", "cerebras", "provider"),
        ("model_provider", "claude", "provider"),
        ("modelId", "llama3.1-70b", "model"),
        ("model_used", "gpt-4o", "model"),
        ("model_name", "gpt-4.1-mini", "model"),
        ("modelVersion", "gpt-4.1-mini-2025-04-14", "model_version"),
        ("openai_request_id", "chatcmpl-1", "request_id"),
        ("requestId", "req_1", "request_id"),
        ("inputTokens", 3, "input_tokens"),
        ("outputTokens", 4, "output_tokens"),
        ("cachedTokens", 2, "cache_read_tokens"),
        ("cached_tokens", 2, "cache_read_tokens"),
        ("tokens_used", 7, "total_tokens"),
        ("totalTokens", 7, "total_tokens"),
        ("response_time_ms", 812, "latency_ms"),
        ("responseTimeMs", 812, "latency_ms"),
        ("complexityScore", 6, "complexity_score"),
        ("errorMessage", "it failed", "error_message"),
        ("cacheWrite1hTokens", 5, "cache_write_1h_tokens"),
    ],
)
def test_each_spelling_means_one_field(spelling: str, value: Any, field: str) -> None:
    assert fields(**{spelling: value})[field] == value


@pytest.mark.parametrize("name", UsageEvent.model_fields)
def test_every_field_may_be_spelt_as_it_is_and_in_camel_case(name: str) -> None:
    first, *rest = name.split("_")
    camel = first + "".join(word.capitalize() for word in rest)

    # A value of its own type: what it means depends on the field.
    assert name in fields(**{name: "x"})
    assert name in fields(**{camel: "x"})


@pytest.mark.parametrize("spelling", ["success", "recipe_generated", "recipeGenerated"])
def test_a_call_that_did_not_succeed_is_an_error(spelling: str) -> None:
    assert fields(**{spelling: True})["status"] == "success"
    assert fields(**{spelling: False})["status"] == "error"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("2024-12-16T10:00:00", "2024-12-16T10:00:00Z"),
        ("2024-12-16 10:00:00.123456", "2024-12-16 10:00:00.123456Z"),
        ("2024-12-16T10:00", "2024-12-16T10:00Z"),
        ("2024-12-16t10:00:00,5", "2024-12-16t10:00:00,5Z"),
        ("2024-12-16T10:00:00+01:00", "2024-12-16T10:00:00+01:00"),
        ("2024-12-16", "2024-12-16"),
        (1734343200, "2024-12-16T10:00:00+00:00"),
        (1734343200123, "2024-12-16T10:00:00.123000+00:00"),
        (10**30, str(10**30)),
        (10**400, str(10**400)),
        (True, True),
    ],
)
def test_a_time_without_zone_and_unix_time_are_utc(sent: Any, read: Any) -> None:
    assert fields(created_at=sent)["timestamp"] == read


def test_an_amount_that_is_a_float_is_rounded_to_a_trillionth_and_a_text_is_kept() -> None:
    assert fields(provider_cost_usd=0.1 + 0.2)["provider_cost_usd"] == "0.300000000000"
    assert fields(provider_cost_usd="0.0000000000001")["provider_cost_usd"] == "0.0000000000001"
    assert fields(audioSeconds=12)["audio_seconds"] == 12


def test_null_counts_as_not_sent() -> None:
    assert fields(userId=None, cached_tokens=None, model="m", provider="p") == {"model": "m", "provider": "p"}


def test_the_same_said_twice_is_fine_and_a_contradiction_is_not() -> None:
    assert fields(inputTokens=5, input_tokens=5)["input_tokens"] == 5
    with pytest.raises(InvalidEventError) as caught:
        fields(inputTokens=5, input_tokens=6)

    assert (
        str(caught.value)
        == "inputTokens and input_tokens both mean input_tokens, and differ; send one of them"
    )


def test_a_field_that_nobody_knows_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(InvalidEventError) as caught:
        fields(outputTokns=5)

    assert str(caught.value) == (
        "outputTokns: there is no such field, did you mean outputTokens; put facts of your own into tags or metadata"
    )


def test_facts_that_trackers_add_are_kept_as_metadata() -> None:
    read = fields(ingredientCount=4, calculated_cost=0.002, metadata={"title": "Soup"})

    assert read == {"metadata": {"ingredientCount": 4, "calculated_cost": 0.002, "title": "Soup"}}


def test_a_service_is_the_provider_when_it_is_one_and_none_is_named() -> None:
    assert fields(service="openai", model="m") == {"provider": "openai", "model": "m"}
    assert fields(service="other", model="m")["provider"] == "other"
    assert fields(service="checkout", model="m") == {"service": "checkout", "model": "m"}
    assert fields(service="openai", provider="azure", model="m")["service"] == "openai"


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o-mini", "openai"),
        ("o3", "openai"),
        ("o4-mini", "openai"),
        ("claude-haiku-4-5", "anthropic"),
        ("gemini-2.0-flash-exp", "google"),
        ("grok-4-fast-reasoning", "x-ai"),
    ],
)
def test_who_makes_a_model_sells_it_unless_somebody_else_is_named(model: str, provider: str) -> None:
    read = fields(model=model)

    assert (read["provider"], read["metadata"]) == (provider, {"provider_from": "model"})
    assert fields(model=model, provider="openrouter") == {"model": model, "provider": "openrouter"}


@pytest.mark.parametrize("model", ["llama3.1-70b", "o300", "my-gpt-4"])
def test_a_model_of_no_certain_maker_gets_no_provider(model: str) -> None:
    assert fields(model=model) == {"model": model}


def test_the_endpoint_in_the_metadata_says_which_api_was_called() -> None:
    assert fields(metadata={"endpoint": "audio.transcriptions"})["api_operation"] == "transcription"
    assert "api_operation" not in fields(metadata={"endpoint": "/api/viva/chat"})


def test_a_sentence_names_fields_as_the_sender_does() -> None:
    _, spelt = canonical_fields({"tokens_used": 1, "inputTokens": 2, "output_tokens": 3})

    sentence = spelt_as_sent("the record: total_tokens = 1, but input_tokens + output_tokens = 5", spelt)

    assert sentence == "tokens_used = 1, but inputTokens + output_tokens = 5"
