"""What the trackers of five products send today, word for word, goes through the door."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tokentide.console.ingest.keys import ANYBODY
from tokentide.console.ingest.reader import Reader, Reading
from tokentide.streams.decode import decode

NOW = datetime(2026, 11, 28, 1, 30, tzinfo=UTC)


def read(sent: Any) -> Reading:
    (reading,) = Reader(ANYBODY, NOW, source="door", max_future_seconds=3600).read([sent])
    return reading


def event(sent: Any) -> dict[str, Any]:
    reading = read(sent)
    assert reading.record is not None, reading.problem
    assert not decode([reading.record.value]).refused, "the meter would reject it"
    return dict(json.loads(reading.record.value))


def test_the_first_names_openais_ids() -> None:
    """`trackTokenUsage`, and a failed call as its pattern would report one."""
    sent = {
        "user_id": "5b0f3f8e",
        "action_type": "vision_refinement",
        "model_used": "gpt-4o-2024-08-06",
        "tokens_used": 2000,
        "input_tokens": 1500,
        "output_tokens": 500,
        "openai_request_id": "chatcmpl-Af1",
        "openai_created": 1734343200,
        "system_fingerprint": None,
        "success": True,
        "metadata": {"category": "health"},
    }

    assert event(sent) == {
        "event_id": "openai/chatcmpl-Af1",
        "schema_version": 1,
        "timestamp": "2026-11-28T01:30:00Z",
        "user_id": "5b0f3f8e",
        "operation": "vision_refinement",
        "provider": "openai",
        "model": "gpt-4o-2024-08-06",
        "request_id": "chatcmpl-Af1",
        "provider_created": "2024-12-16T10:00:00Z",
        "input_tokens": 1500,
        "output_tokens": 500,
        "total_tokens": 2000,
        "metadata": {"category": "health", "provider_from": "model"},
        "source": "http",
    }
    assert event({**sent, "success": False, "error_message": "rate limit"})["status"] == "error"


def test_the_second_names_its_provider() -> None:
    """`TokenService.trackUsage`."""
    sent = {
        "userId": "test-user-id",
        "operation": "presentation_generate",
        "operationId": "presentation-1",
        "inputTokens": 1500,
        "outputTokens": 3500,
        "modelProvider": "cerebras",
        "modelId": "llama3.1-70b",
        "metadata": {"title": "Tides", "slideCount": 10},
    }

    read_ = event(sent)

    assert (read_["provider"], read_["model"], read_["total_tokens"]) == ("cerebras", "llama3.1-70b", 5000)
    assert (read_["operation"], read_["operation_id"]) == ("presentation_generate", "presentation-1")
    assert read_["metadata"] == {"title": "Tides", "slideCount": 10}


@pytest.mark.parametrize("service", ["openai", "anthropic", "google", "other"])
def test_the_third_calls_its_provider_a_service(service: str) -> None:
    """`trackApiUsage`."""
    sent = {
        "userId": "user-1",
        "service": service,
        "model": "gpt-4o-mini",
        "inputTokens": 120,
        "outputTokens": 0,
        "metadata": {"endpoint": "chat.completions"},
    }

    read_ = event(sent)

    assert (read_["provider"], read_["input_tokens"], "service" in read_) == (service, 120, False)


@pytest.mark.parametrize("execution", ["prompt_run", "preview", "improvement", "agent_generation"])
def test_the_fourth_names_no_provider(execution: str) -> None:
    """`POST /api/usage/track`, and the row that it writes."""
    sent = {
        "promptId": "prompt-1",
        "runId": "run-1",
        "inputTokens": 10,
        "outputTokens": 20,
        "model": "gpt-4-turbo",
        "executionType": execution,
    }
    row = {
        "user_id": "user-1",
        "team_id": None,
        "prompt_id": "prompt-1",
        "run_id": "run-1",
        "input_tokens": 10,
        "output_tokens": 20,
        "input_cost_usd": 0.0001,
        "output_cost_usd": 0.0006,
        "model": "gpt-4-turbo",
        "execution_type": execution,
    }

    for read_ in (event(sent), event(row)):
        assert (read_["provider"], read_["operation"]) == ("openai", execution)
        assert (read_["prompt_id"], read_["run_id"], read_["total_tokens"]) == ("prompt-1", "run-1", 30)


@pytest.mark.parametrize(
    ("named", "provider"),
    [("openai", "openai"), ("claude", "anthropic"), ("gemini", "google"), ("grok", "x-ai")],
)
def test_the_fifth_names_providers_by_their_models(named: str, provider: str) -> None:
    """`logAIUsage`, and the row that it writes."""
    sent = {
        "sessionId": "sess_1734343200000_k3j9x2a",
        "requestId": f"req_1734343200000_{named}",
        "modelProvider": named,
        "modelName": "a-model",
        "modelVersion": "a-model-2025-04-14",
        "inputTokens": 900,
        "outputTokens": 1100,
        "cachedTokens": 400,
        "complexityScore": 6,
        "recipeGenerated": True,
        "responseTimeMs": 4210,
        "ingredientCount": 7,
        "allergenCount": 2,
        "dietaryRestrictionCount": 1,
    }
    row = {
        "created_at": "2025-10-17 09:30:00",
        "user_id": None,
        "session_id": "sess_1734343200000_k3j9x2a",
        "request_id": f"req_1734343200000_{named}",
        "model_provider": named,
        "model_name": "a-model",
        "model_version": "a-model-2025-04-14",
        "input_tokens": 900,
        "output_tokens": 1100,
        "cached_tokens": 400,
        "total_tokens": 2000,
        "input_cost_per_million": 0.4,
        "output_cost_per_million": 1.6,
        "cached_cost_per_million": 0.1,
        "calculated_cost": 0.00212,
        "complexity_score": 6,
        "recipe_generated": True,
        "error_message": None,
        "response_time_ms": 4210,
        "ingredient_count": 7,
        "allergen_count": 2,
        "dietary_restriction_count": 1,
    }

    for read_ in (event(sent), event(row)):
        assert read_["event_id"] == f"{provider}/req_1734343200000_{named}"
        assert (read_["model"], read_["model_version"]) == ("a-model", "a-model-2025-04-14")
        assert (read_["cache_read_tokens"], read_["total_tokens"]) == (400, 2000)
        assert (read_["latency_ms"], read_["complexity_score"]) == (4210, 6)
        assert len(read_["metadata"]) >= 3
    assert event(row)["timestamp"] == "2025-10-17T09:30:00Z"


def test_the_fifth_reports_a_failed_attempt_without_knowing_the_model() -> None:
    sent = {
        "sessionId": "s",
        "requestId": "r",
        "modelProvider": "unknown",
        "modelName": "unknown",
        "modelVersion": "unknown",
        "inputTokens": 0,
        "outputTokens": 0,
        "recipeGenerated": False,
        "responseTimeMs": 120,
        "errorMessage": "Unknown error",
    }

    read_ = event(sent)

    assert (read_["provider"], read_["status"], read_["error_message"]) == (
        "unknown",
        "error",
        "Unknown error",
    )
    assert "total_tokens" not in read_


def test_tokens_that_are_not_the_sum_are_refused() -> None:
    reading = read({"model_used": "gpt-4o", "tokens_used": 2001, "input_tokens": 1500, "output_tokens": 500})

    assert reading.problem is not None
    assert reading.problem.problem == (
        "tokens_used = 2001, but input_tokens + output_tokens = 2000; leave tokens_used out or correct the counts"
    )
