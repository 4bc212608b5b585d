"""One observation: one event, with the right fields, whatever happens."""

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from support.model_server import Recorder
from support.openai_answers import COMPLETION, chat_chunks

from tokentide.producers.attribution import attribution, unattributed_calls
from tokentide.producers.observation import Observation
from tokentide.producers.observation_tally import observation_counters
from tokentide.schemas import UsageEvent

NOW = datetime(2026, 11, 28, 1, 2, 3, tzinfo=UTC)
REQUEST: dict[str, Any] = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "Hello there"}]}


class Seconds:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Broken:
    """A tracker that fails."""

    def track(self, **fields: Any) -> None:
        """Fail."""
        raise RuntimeError("no")


@pytest.fixture
def seconds() -> Seconds:
    """The monotonic clock."""
    return Seconds()


def observe(recorder: Any, seconds: Seconds | None = None, **more: Any) -> Observation:
    """Begin to observe a chat."""
    monotonic = seconds or Seconds()
    return Observation(recorder, "openai", "chat", REQUEST, clock=lambda: NOW, monotonic=monotonic, **more)


def test_an_answer_becomes_an_event_that_kafka_takes(recorder: Recorder, seconds: Seconds) -> None:
    observation = observe(recorder, seconds)
    seconds.now += 0.25

    observation.answer(COMPLETION)
    observation.end()

    event = UsageEvent(**recorder.only())
    assert (event.timestamp, event.latency_ms, event.ttft_ms, event.stream) == (NOW, 250, None, False)
    assert (event.model, event.request_model) == ("gpt-4.1-2025-04-14", "gpt-4.1")
    assert (event.input_tokens, event.output_tokens) == (19, 10)
    assert event.metadata["usage_status"] == "exact"


def test_the_first_chunk_sets_the_time_to_it(recorder: Recorder, seconds: Seconds) -> None:
    observation = observe(recorder, seconds, stream=True)
    observation.opened()

    for chunk in chat_chunks():
        seconds.now += 0.125
        observation.chunk(chunk)
    observation.end()

    event = UsageEvent(**recorder.only())
    assert (event.ttft_ms, event.latency_ms, event.stream) == (125, 625, True)
    assert event.output_tokens == 10


def test_what_is_said_closer_to_the_call_wins(recorder: Recorder) -> None:
    defaults = {
        "operation": "default",
        "service": "shop",
        "model": "default",
        "tags": {"a": "default", "b": "default"},
        "metadata": {"kept": 1},
    }

    with attribution(operation="inner", user_id="ada", tags={"b": "inner"}):
        observation = observe(recorder, defaults=defaults)
    with attribution(user_id="too late"):
        observation.answer(COMPLETION)
        observation.end()

    event = UsageEvent(**recorder.only())
    assert (event.operation, event.service, event.user_id) == ("inner", "shop", "ada")
    assert event.model == "gpt-4.1-2025-04-14"
    assert event.tags == {"a": "default", "b": "inner"}
    assert event.metadata["kept"] == 1
    assert event.metadata["usage_status"] == "exact"


def test_only_the_first_end_counts(recorder: Recorder) -> None:
    observation = observe(recorder)

    threads = [threading.Thread(target=observation.end) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    observation.end(ValueError("late"))

    assert "status" not in recorder.only()


class Refused(Exception):
    """As an SDK raises it."""

    status_code = 400
    code = "content_filter"
    type = "The prompt 'secret' is bad"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (Refused("secret"), "error", "HTTP 400 content_filter"),
        (ValueError("secret"), "error", None),
        (GeneratorExit(), "cancelled", None),
        (KeyboardInterrupt(), "cancelled", None),
    ],
)
def test_an_error_is_named_but_not_quoted(
    recorder: Recorder, error: BaseException, status: str, message: str | None
) -> None:
    observe(recorder).end(error)

    event = UsageEvent(**recorder.only())
    assert (event.status, event.error_type, event.error_message) == (status, type(error).__name__, message)
    assert (event.model, event.total_tokens, event.estimated) == ("gpt-4.1", 0, False)
    assert "secret" not in str(recorder.only())


def test_a_call_without_a_model_is_metered(recorder: Recorder) -> None:
    observation = Observation(recorder, "openai", "chat", {})
    observation.answer({"choices": []})
    observation.end()

    event = UsageEvent(**recorder.only())
    assert event.model == "unknown"
    assert event.estimated


def test_an_answer_that_nobody_can_read_is_metered(recorder: Recorder) -> None:
    observation = observe(recorder)
    observation.answer(object())
    observation.end()

    assert UsageEvent(**recorder.only()).estimated


def test_the_id_of_a_header_makes_no_event_id(recorder: Recorder) -> None:
    observation = observe(recorder)
    observation.answer({**COMPLETION, "id": None}, request_id="req_1")
    observation.end()

    event = recorder.only()
    assert event["request_id"] == "req_1"
    assert "event_id" not in event


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log of the SDK."""
    with caplog.at_level(logging.WARNING, "tokentide.producers"):
        yield caplog


def test_a_tracker_that_fails_harms_nobody(quiet: pytest.LogCaptureFixture) -> None:
    before = observation_counters()

    for _ in range(3):
        observe(Broken()).end()

    after = observation_counters()
    assert (after.observed, after.failures) == (before.observed, before.failures + 3)
    assert len(quiet.records) <= 1


def test_calls_of_nobody_are_metered_and_counted(recorder: Recorder) -> None:
    before = unattributed_calls()

    observe(recorder).end()
    with attribution(team_id="red"):
        observe(recorder).end()

    assert len(recorder.events) == 2
    assert unattributed_calls() == before + 1


class Guarding:
    """A guard that refuses everybody."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def require(self, user_id: str | None, team_id: str | None, **call: Any) -> None:
        """Refuse."""
        self.asked.append((user_id, team_id, call))
        raise PermissionError("used up")


def test_a_refused_call_gives_no_event_but_a_count(recorder: Recorder) -> None:
    guard = Guarding()
    before = observation_counters()

    with attribution(user_id="ada", org_id="acme", operation="chat"):
        observation = observe(recorder)
    with pytest.raises(PermissionError, match="used up"):
        observation.before_call(guard, estimated_tokens=7)
    observation.end()

    call = {
        "org_id": "acme",
        "provider": "openai",
        "model": "gpt-4.1",
        "operation": "chat",
        "estimated_tokens": 7,
    }
    assert guard.asked == [("ada", None, call)]
    assert recorder.events == []
    assert observation_counters().refused == before.refused + 1


@pytest.mark.parametrize(
    ("length", "kept"),
    [(10, {"note", "usage_status", "raw_usage"}), (8100, {"note", "usage_status"}), (8179, {"note"})],
)
def test_metadata_of_the_service_is_kept_and_the_event_never_grows_too_large(
    recorder: Recorder, length: int, kept: set[str]
) -> None:
    observation = observe(recorder, defaults={"metadata": {"note": "x" * length}})

    observation.answer(COMPLETION)
    observation.end()

    event = UsageEvent(**recorder.only())
    assert event.metadata.keys() == kept
    assert event.input_tokens == 19
