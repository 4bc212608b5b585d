"""Spans of OpenTelemetry become usage events."""

from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode
from support.model_server import ModelServer, Recorder, json_answer

from tokentide.producers.attribution import attribution
from tokentide.producers.instrumentation import instrument
from tokentide.producers.instrumentation.otel import span_processor

CHAT: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 50,
}


@pytest.fixture
def tracer(recorder: Recorder) -> Any:
    resource = Resource({"service.name": "shop", "deployment.environment.name": "test"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(span_processor(recorder, tags={"team": "web"}))
    return provider.get_tracer("test")


def spanned(tracer: Any, attributes: dict[str, Any]) -> None:
    with tracer.start_as_current_span("chat") as span:
        span.set_attributes(attributes)


def chosen(event: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return {name: event.get(name) for name in names}


def test_a_span_of_a_call(recorder: Recorder, tracer: Any) -> None:
    with attribution(user_id="ada", tags={"page": "home"}):
        spanned(tracer, {**CHAT, "gen_ai.usage.cache_read.input_tokens": 40})

    expected = {
        "event_id": "openai/chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "source": "otel",
        "provider": "openai",
        "model": "gpt-4o-2024-08-06",
        "request_model": "gpt-4o",
        "api_operation": "chat",
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read_tokens": 40,
        "finish_reason": "stop",
        "service": "shop",
        "environment": "test",
        "user_id": "ada",
        "tags": {"team": "web", "page": "home"},
    }
    event = recorder.only()
    assert chosen(event, expected) == expected
    assert event["latency_ms"] >= 0
    assert len(event["trace_id"]) == 32


@pytest.mark.parametrize("name", ["cache_write.input_tokens", "cache_creation.input_tokens"])
def test_both_spellings_of_what_was_written_to_a_cache(recorder: Recorder, tracer: Any, name: str) -> None:
    spanned(tracer, {**CHAT, f"gen_ai.usage.{name}": 30})

    assert (recorder.only()["input_tokens"], recorder.only()["cache_write_tokens"]) == (100, 30)


def test_older_names(recorder: Recorder, tracer: Any) -> None:
    spanned(
        tracer,
        {
            "gen_ai.system": "az.ai.openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.prompt_tokens": 7,
            "gen_ai.usage.completion_tokens": 3,
        },
    )

    event = recorder.only()
    assert (event["provider"], event["input_tokens"], event["output_tokens"]) == ("azure", 7, 3)


def test_a_cache_larger_than_the_input_stands_beside_it(recorder: Recorder, tracer: Any) -> None:
    """Anthropic's own numbers, from an instrumentation that does not add them up."""
    spanned(
        tracer,
        {
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude-haiku-4-5",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.cache_read.input_tokens": 2000,
            "gen_ai.usage.cache_creation.input_tokens": 300,
            "gen_ai.usage.output_tokens": 5,
        },
    )

    assert recorder.only()["input_tokens"] == 2310


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.request.method": "POST"},
        {name: value for name, value in CHAT.items() if not name.startswith("gen_ai.usage.")},
        {**CHAT, "gen_ai.operation.name": "invoke_agent"},
        {**CHAT, "gen_ai.operation.name": "execute_tool"},
    ],
)
def test_other_spans_give_no_event(recorder: Recorder, tracer: Any, attributes: dict[str, Any]) -> None:
    spanned(tracer, attributes)

    assert recorder.events == []


def test_a_failed_call(recorder: Recorder, tracer: Any) -> None:
    with tracer.start_as_current_span("chat") as span:
        span.set_attributes(
            {
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "error.type": "RateLimitError",
            }
        )
        span.set_status(Status(StatusCode.ERROR, "Say hello"))

    event = recorder.only()
    assert (event["status"], event["error_type"], event["model"]) == ("error", "RateLimitError", "gpt-4o")
    assert "Say hello" not in str(event)


def test_a_failure_of_something_else_is_no_call(recorder: Recorder, tracer: Any) -> None:
    """The Anthropic SDK makes a span of each request, also of a list of batches, and names the provider in it."""
    spanned(tracer, {"gen_ai.provider.name": "anthropic", "http.route": "/v1/files", "error.type": "501"})

    assert recorder.events == []


def test_the_time_to_the_first_chunk(recorder: Recorder, tracer: Any) -> None:
    spanned(tracer, {**CHAT, "gen_ai.request.stream": True, "gen_ai.response.time_to_first_chunk": 0.25})

    assert (recorder.only()["ttft_ms"], recorder.only()["stream"]) == (250.0, True)


def test_the_client_and_its_span_are_one_event(server: ModelServer, recorder: Recorder, tracer: Any) -> None:
    import openai

    server.answer(
        "/chat/completions",
        json_answer(
            {
                "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
                "object": "chat.completion",
                "created": 1772366400,
                "model": "gpt-4o-2024-08-06",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Hello"},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
            }
        ),
    )
    with openai.OpenAI(api_key="k", base_url=server.url) as client:
        instrument(client, recorder, provider="openai")
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Say hello"}])
    spanned(tracer, CHAT)

    names = ("event_id", "provider", "model", "input_tokens", "output_tokens")
    first, second = ({name: event[name] for name in names} for event in recorder.events)
    assert first == second
