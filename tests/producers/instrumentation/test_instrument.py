"""instrument() itself: what it accepts, refuses, adds and gives back."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import openai
import pytest
from openai import DefaultHttpxClient, OpenAI
from support.model_server import ModelServer, Recorder, json_answer, sse_answer
from support.openai_answers import COMPLETION, chat_chunks

from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.producers.attribution import attribution
from tokentide.producers.default import set_default_producer
from tokentide.producers.default_guard import default_guard
from tokentide.producers.instrumentation import INTEGRATIONS, instrument, uninstrument
from tokentide.producers.instrumentation.addresses import provider_of
from tokentide.producers.instrumentation.endpoints import api_operation_of
from tokentide.schemas import UsageEvent
from tokentide.schemas.provider import canonical_provider

CALL: dict[str, Any] = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def client(server: ModelServer) -> Iterator[OpenAI]:
    """A client that is not metered yet."""
    server.answer("/v1/chat/completions", json_answer(COMPLETION))
    http = DefaultHttpxClient(verify=False)
    with OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0, http_client=http) as client:
        yield client


def test_it_returns_the_same_client(client: OpenAI, recorder: Recorder) -> None:
    assert instrument(client, recorder) is client
    assert uninstrument(client) is client


def test_twice_is_once(client: OpenAI, recorder: Recorder) -> None:
    instrument(instrument(client, recorder), Recorder())

    client.chat.completions.create(**CALL)

    assert len(recorder.events) == 1


def test_twice_is_once_also_in_two_threads_at_once(server: ModelServer, recorder: Recorder) -> None:
    """A service may instrument its client wherever it takes it from."""
    server.answer("/v1/chat/completions", json_answer(COMPLETION))
    together = threading.Barrier(2, timeout=30)

    class Slow(OpenAI):
        """Both threads look at it before either has wrapped it."""

        @property
        def post(self) -> Any:
            with suppress(threading.BrokenBarrierError):
                together.wait(0.5)
            return super().post

    http = DefaultHttpxClient(verify=False)
    with Slow(api_key="none", base_url=f"{server.url}/v1", http_client=http) as client:
        threads = [threading.Thread(target=instrument, args=(client, recorder)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.chat.completions.create(**CALL)

    assert len(recorder.events) == 1


def test_a_resource_that_the_service_holds_already_is_metered(client: OpenAI, recorder: Recorder) -> None:
    completions = client.chat.completions
    raw = client.with_raw_response

    instrument(client, recorder)
    completions.create(**CALL)
    raw.chat.completions.create(**CALL)

    assert len(recorder.events) == 2


def test_uninstrument_leaves_nothing_behind(client: OpenAI, recorder: Recorder) -> None:
    before = dict(vars(client))

    uninstrument(instrument(client, recorder))
    uninstrument(client)

    assert vars(client) == before
    client.chat.completions.create(**CALL)
    assert recorder.events == []


def test_other_clients_stay_unmetered(client: OpenAI, recorder: Recorder) -> None:
    other = client.copy()
    instrument(client, recorder)

    other.chat.completions.create(**CALL)

    assert recorder.events == []


def test_defaults_and_attribution_reach_the_event(client: OpenAI, recorder: Recorder) -> None:
    instrument(
        client, recorder, service="shop", operation="any", provider="fireworks", tags={"n": 1}, user_id=7
    )

    with attribution(operation="summary", team_id="red"):
        client.chat.completions.create(**CALL)

    event = UsageEvent(**recorder.only())
    assert (event.service, event.operation, event.team_id) == ("shop", "summary", "red")
    assert (event.user_id, event.tags) == ("7", {"n": "1"})
    assert event.provider == "fireworks"
    assert event.event_id == f"fireworks/{COMPLETION['id']}"


def test_a_wrong_default_is_left_out_and_said(
    client: OpenAI, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: dict[str, Any] = {"usr_id": "ada", "event_id": "always the same", "processing": "tomorrow"}

    with caplog.at_level(logging.WARNING, "tokentide.producers"):
        instrument(client, recorder, **wrong, service="shop")
    client.chat.completions.create(**CALL)

    event = UsageEvent(**recorder.only())
    assert (event.service, event.processing) == ("shop", "standard")
    assert event.event_id == f"openai/{COMPLETION['id']}"
    assert "usr_id" in caplog.text


class Stranger:
    """No client that is known."""


def test_a_class_that_is_not_known_is_said_once(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    stranger = Stranger()

    with caplog.at_level(logging.WARNING, "tokentide.producers"):
        assert instrument(stranger, recorder) is stranger
        instrument(Stranger(), recorder)
        instrument(OpenAI, recorder)

    assert [record.getMessage() for record in caplog.records] == [
        f"{__name__}.Stranger is NOT metered: no integration knows it",
        "builtins.type is NOT metered: no integration knows it",
    ]


class OldOpenAI:
    """As if from a version of long ago."""


OldOpenAI.__module__ = "openai._client"


def test_a_version_that_cannot_be_wrapped_is_named(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tokentide.producers"):
        instrument(OldOpenAI(), recorder)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "openai._client.OldOpenAI" in record.getMessage()
    assert "it has no request, post" in record.getMessage()
    assert openai.__version__ in record.getMessage()


class Shop(OpenAI):
    """A service's own class."""


def test_a_class_of_the_service_itself_is_metered(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/chat/completions", json_answer(COMPLETION))
    http = DefaultHttpxClient(verify=False)

    with Shop(api_key="none", base_url=f"{server.url}/v1", http_client=http) as shop:
        instrument(shop, recorder).chat.completions.create(**CALL)

    assert recorder.only()["provider"] == "openai"


class Patient(OpenAI):
    """A service's own class, which makes a copy by means of the other method."""

    def with_options(self, **options: Any) -> "Patient":
        return self.copy(**options)


def test_a_copy_made_by_means_of_a_copy_is_metered_once(server: ModelServer, recorder: Recorder) -> None:
    server.answer("/v1/chat/completions", json_answer(COMPLETION))
    http = DefaultHttpxClient(verify=False)

    with Patient(api_key="none", base_url=f"{server.url}/v1", http_client=http) as client:
        instrument(client, recorder).with_options(timeout=60).chat.completions.create(**CALL)

    assert len(recorder.events) == 1


class Guarding:
    """A guard that lets nobody but ada."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def require(self, user_id: str | None, team_id: str | None, **call: Any) -> None:
        """Refuse all others."""
        self.asked.append(call)
        if user_id != "ada":
            raise PermissionError("used up")


def test_a_guard_refuses_before_the_request_is_sent(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    guard = Guarding()
    instrument(client, recorder, guard=guard)

    with attribution(user_id="ada"):
        client.chat.completions.create(**CALL, max_completion_tokens=1000)
    with attribution(user_id="eve"), pytest.raises(PermissionError, match="used up"):
        client.with_options(timeout=9).chat.completions.create(**CALL)

    assert len(server.requests) == 1
    assert len(recorder.events) == 1
    assert guard.asked[0]["model"] == "gpt-4.1"
    assert guard.asked[0]["estimated_tokens"] == 1002


def test_guard_true_is_one_guard_made_from_the_environment(
    client: OpenAI, server: ModelServer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENTIDE_BROKER", "127.0.0.1:9")
    monkeypatch.setenv("TOKENTIDE_GUARD_MAX_TOKENS_PER_REQUEST", "100")
    default_guard.cache_clear()
    instrument(client, recorder, guard=True)
    guard: Any = default_guard()
    try:
        client.chat.completions.create(**CALL, max_completion_tokens=50)
        with pytest.raises(Exception, match="tokens"):
            client.chat.completions.create(**CALL, max_completion_tokens=200)
    finally:
        guard.close()
        default_guard.cache_clear()

    assert len(server.requests) == len(recorder.events) == 1


def test_without_a_producer_the_default_one_is_used(client: OpenAI) -> None:
    with UsageProducer(ProducerSettings(), broker="127.0.0.1:9") as producer:
        before = set_default_producer(producer)
        try:
            instrument(client).chat.completions.create(**CALL)
            assert producer.counters.tracked == 1
            assert producer.counters.invalid == 0
        finally:
            set_default_producer(before)
            producer.close(0)


class Unlike:
    """What a future version might return for a stream."""

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2])


def test_a_stream_of_an_unknown_make_reaches_the_service_and_is_metered(
    client: OpenAI, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    unlike = Unlike()
    vars(client)["request"] = lambda *args, **kwargs: unlike

    instrument(client, recorder)
    with caplog.at_level(logging.WARNING, "tokentide.producers"):
        assert client.chat.completions.create(**CALL, stream=True) is unlike

    event = UsageEvent(**recorder.only())
    assert event.estimated
    assert event.input_tokens > 0


def test_the_body_of_the_service_is_not_changed(
    client: OpenAI, server: ModelServer, recorder: Recorder
) -> None:
    server.answer("/v1/chat/completions", sse_answer(chat_chunks()))
    options = {"include_obfuscation": False}
    body = {**CALL, "stream": True, "stream_options": options}

    stream: Any = instrument(client, recorder).chat.completions.create(**body)
    list(stream)

    assert options == {"include_obfuscation": False}
    assert server.bodies()[0]["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize(
    ("kind", "url", "provider"),
    [
        (OpenAI, "https://api.openai.com/v1/", "openai"),
        (OpenAI, "https://eu.api.openai.com/v1/", "openai"),
        (OpenAI, "https://openrouter.ai/api/v1/", "openrouter"),
        (OpenAI, "https://api.x.ai/v1/", "x-ai"),
        (OpenAI, "https://max.ai/v1/", "openai"),
        (OpenAI, "https://api.deepseek.com/", "deepseek"),
        (OpenAI, "https://api.together.xyz/v1/", "together"),
        (OpenAI, "https://api.groq.com/openai/v1/", "groq"),
        (OpenAI, "https://api.mistral.ai/v1/", "mistral"),
        (OpenAI, "https://api.fireworks.ai/inference/v1/", "fireworks"),
        (OpenAI, "https://api.perplexity.ai/", "perplexity"),
        (OpenAI, "https://generativelanguage.googleapis.com/v1beta/openai/", "google"),
        (OpenAI, "https://shop.openai.azure.com/openai/v1/", "azure"),
        (OpenAI, "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1/", "aws"),
        (OpenAI, "http://localhost:11434/v1/", "ollama"),
        (OpenAI, "http://127.0.0.1:1234/v1/", "lmstudio"),
        (OpenAI, "http://localhost:4000/v1/", "openai"),
        (OpenAI, "http://[::1", "openai"),
        (Shop, "https://llm.example/v1/", "openai"),
    ],
)
def test_the_address_tells_the_provider(kind: type, url: str, provider: str) -> None:
    assert provider_of(kind, url) == provider
    assert canonical_provider(provider) == provider


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/chat/completions", "chat"),
        ("/v1/chat/completions", "chat"),
        ("/openai/v1/chat/completions", "chat"),
        ("/v1/messages?beta=true", "chat"),
        ("/responses?beta=true", "responses"),
        ("/openai/v1/audio/speech", "speech"),
        ("/v1/rerank", "rerank"),
        ("/v1/messages/count_tokens", None),
        ("/v1/messages/batches", None),
        ("/responses/resp_1/cancel", None),
        ("/moderations", None),
        ("/threads/t/messages", None),
        ("/conversations/c/items", None),
    ],
)
def test_the_path_tells_the_operation(path: str, operation: str | None) -> None:
    assert api_operation_of(path) == operation


def test_no_sdk_is_imported_before_its_client_is_there() -> None:
    code = (
        "import sys, tokentide.producers.instrumentation as i, tokentide.producers.instrumentation.openai_like;"
        "print([m for m in ('openai', 'anthropic', 'groq', 'together', 'httpx', 'httpx2', 'genai_prices')"
        " if m in sys.modules])"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "[]"


def test_every_integration_is_there() -> None:
    for name in set(INTEGRATIONS.values()):
        assert callable(import_module(f"tokentide.producers.instrumentation.{name}").wrap)
