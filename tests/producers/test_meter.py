"""The meter for everything else: each call of any kind of function, or block, is one right event."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

import pytest

from tokentide.producers.attribution import attribution, unattributed_calls
from tokentide.producers.decision import GuardRefused
from tokentide.producers.default import set_default_producer
from tokentide.producers.default_guard import default_guard
from tokentide.producers.extraction import extract
from tokentide.producers.guard import Guard
from tokentide.producers.guard_settings import GuardSettings
from tokentide.producers.metering import meter, record
from tokentide.producers.producer import UsageProducer
from tokentide.schemas import KafkaSettings, UsageEvent

ANSWER = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcA",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
CHUNKS: list[dict[str, Any]] = [
    {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcB",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}],
    },
    {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcB",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "gpt-4o-2024-08-06",
        "choices": [],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    },
]


class Events(list[dict[str, Any]]):
    """What was tracked, each a valid event."""

    def track(self, **fields: Any) -> None:
        UsageEvent(**{"timestamp": datetime.now(UTC)} | fields)
        self.append(fields)

    def only(self, *names: str) -> dict[str, Any]:
        """The only event, of which these fields."""
        (event,) = self
        return {name: event.get(name) for name in names}


@pytest.fixture
def events() -> Events:
    return Events()


COUNTS = {"input_tokens": 10, "output_tokens": 5}


def test_a_function_is_metered_by_what_it_returns(events: Events) -> None:
    @meter(producer=events, operation="greeting", user_id="default")
    def greet(name: str) -> dict[str, Any]:
        """Say hello."""
        return {**ANSWER, "name": name}

    with attribution(user_id="ada"):
        answer = greet("Ada")

    assert answer["name"] == "Ada"
    assert greet.__doc__ == "Say hello."
    assert events.only("provider", "model", "user_id", "operation", "event_id", *COUNTS) == {
        "provider": "openai",
        "model": "gpt-4o-2024-08-06",
        "user_id": "ada",
        "operation": "greeting",
        "event_id": "openai/chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcA",
        **COUNTS,
    }
    assert events[0]["latency_ms"] >= 0


def test_a_function_of_the_service_reads_what_extract_cannot(events: Events) -> None:
    @meter(
        provider="gemini",
        model="m",
        producer=events,
        usage=lambda answer: {"input_tokens": answer[1], "request_id": "r-1"},
    )
    def call() -> tuple[str, int]:
        return "text", 7

    assert call() == ("text", 7)

    assert events.only("provider", "model", "input_tokens", "event_id") == {
        "provider": "google",
        "model": "m",
        "input_tokens": 7,
        "event_id": "google/r-1",
    }


def test_a_coroutine_function_stays_one(events: Events) -> None:
    @meter(producer=events)
    async def call() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return ANSWER

    assert inspect.iscoroutinefunction(call)
    asyncio.run(call())

    assert events.only(*COUNTS) == COUNTS
    assert events[0]["latency_ms"] >= 15


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("the prompt"), "error"), (KeyboardInterrupt(), "cancelled")]
)
def test_an_error_passes_through_and_is_one_event(events: Events, error: BaseException, status: str) -> None:
    @meter(provider="acme", model="m", producer=events)
    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        call()

    assert events.only("status", "error_type", "provider", "input_tokens") == {
        "status": status,
        "error_type": type(error).__name__,
        "provider": "acme",
        "input_tokens": None,
    }
    assert "the prompt" not in repr(events)


def test_a_cancelled_task_is_one_event(events: Events) -> None:
    @meter(provider="acme", model="m", producer=events)
    async def call() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(call())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert events.only("status", "error_type") == {"status": "cancelled", "error_type": "CancelledError"}


def test_a_generator_is_metered_by_its_chunks(events: Events) -> None:
    @meter(producer=events)
    def stream() -> Iterator[dict[str, Any]]:
        yield from CHUNKS

    assert inspect.isgeneratorfunction(stream)
    assert list(stream()) == CHUNKS

    assert events.only("stream", "provider", "event_id", *COUNTS) == {
        "stream": True,
        "provider": "openai",
        "event_id": "openai/chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcB",
        **COUNTS,
    }
    assert events[0]["ttft_ms"] >= 0


def test_of_a_generator_the_last_usage_counts(events: Events) -> None:
    @meter(provider="acme", model="m", producer=events, usage=lambda chunk: chunk.get("tokens"))
    def stream() -> Iterator[dict[str, Any]]:
        yield {"tokens": {"input_tokens": 1}}
        yield {"tokens": {"input_tokens": 2, "output_tokens": 3}}
        yield {"text": "bye"}

    list(stream())

    assert events.only("input_tokens", "output_tokens") == {"input_tokens": 2, "output_tokens": 3}


def test_a_generator_keeps_what_is_sent_thrown_and_returned(events: Events) -> None:
    heard: list[Any] = []

    @meter(provider="acme", model="m", producer=events, usage=lambda chunk: None)
    def stream() -> Any:
        heard.append((yield 1))
        try:
            yield 2
        except LookupError as error:
            heard.append(type(error))
        yield 3
        return "done"

    generator = stream()
    assert (next(generator), generator.send("a"), generator.throw(LookupError())) == (1, 2, 3)
    with pytest.raises(StopIteration, match="done"):
        next(generator)

    assert heard == ["a", LookupError]
    assert events.only("status") == {"status": None}


def test_a_stream_that_is_cut_is_one_cancelled_event(events: Events) -> None:
    closed: list[bool] = []

    @meter(producer=events)
    def stream() -> Any:
        try:
            yield from CHUNKS
        finally:
            closed.append(True)

    generator = stream()
    next(generator)
    generator.close()

    assert closed == [True]
    assert events.only("status", "provider", "estimated") == {
        "status": "cancelled",
        "provider": "openai",
        "estimated": True,
    }


def test_a_stream_that_nobody_reads_is_no_call(events: Events) -> None:
    @meter(producer=events)
    def stream() -> Any:
        yield from CHUNKS

    stream().close()

    assert events == []


def test_an_async_generator_is_metered_and_closed(events: Events) -> None:
    closed: list[bool] = []

    @meter(producer=events)
    async def stream() -> AsyncIterator[dict[str, Any]]:
        try:
            for chunk in CHUNKS:
                await asyncio.sleep(0)
                yield chunk
        finally:
            closed.append(True)

    async def main() -> None:
        assert [chunk async for chunk in stream()] == CHUNKS
        generator: Any = stream()
        async with aclosing(generator):
            await anext(generator)

    assert inspect.isasyncgenfunction(stream)
    asyncio.run(main())

    assert closed == [True, True]
    assert [event.get("status") for event in events] == [None, "cancelled"]
    assert events[0]["input_tokens"] == 10


def test_a_returned_stream_is_not_read_away(events: Events, caplog: pytest.LogCaptureFixture) -> None:
    @meter(provider="acme", model="m", producer=events)
    def call() -> Iterator[dict[str, Any]]:
        return iter(CHUNKS)

    assert list(call()) == CHUNKS

    assert len(events) == 1
    assert "its usage is not read" in caplog.text


def test_a_block_is_metered_by_what_it_says(events: Events) -> None:
    with meter(provider="acme", model="m", producer=events, tags={"a": "1"}) as call:
        call.use(input_tokens=12, output_tokens=3)

    assert events.only("provider", "model", "input_tokens", "output_tokens", "tags") == {
        "provider": "acme",
        "model": "m",
        "input_tokens": 12,
        "output_tokens": 3,
        "tags": {"a": "1"},
    }


def test_an_async_block_takes_an_answer_and_reports_its_error(events: Events) -> None:
    async def main() -> None:
        async with meter(producer=events) as call:
            call.answer(ANSWER)
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(main())

    assert events.only("status", *COUNTS) == {"status": "error", **COUNTS}


def test_one_meter_serves_blocks_of_many_threads_and_tasks_at_once(events: Events) -> None:
    shared = meter(provider="acme", model="m", producer=events)
    together = threading.Barrier(3, timeout=30)

    def in_a_thread(tokens: int) -> None:
        with shared as call:
            together.wait()
            call.use(input_tokens=tokens)
            together.wait()

    async def in_a_task(tokens: int) -> None:
        async with shared as call:
            await asyncio.sleep(0.01)
            call.use(input_tokens=tokens)

    async def tasks() -> None:
        await asyncio.gather(in_a_task(10), in_a_task(11))

    threads = [threading.Thread(target=in_a_thread, args=(tokens,)) for tokens in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(tasks())
    with shared as outer:
        with shared as inner:
            inner.use(input_tokens=20)
        outer.use(input_tokens=21)

    assert sorted(event["input_tokens"] for event in events) == [1, 2, 3, 10, 11, 20, 21]


def test_a_block_that_ends_in_another_context_is_one_event(events: Events) -> None:
    """As a dependency with `yield` does in FastAPI."""
    block = meter(provider="acme", model="m", producer=events)

    copy_context().run(lambda: block.__enter__().use(input_tokens=1))
    copy_context().run(block.__exit__, None, None, None)
    with block as call:
        call.use(input_tokens=2)

    assert [event["input_tokens"] for event in events] == [1, 2]


def test_a_function_that_returns_a_coroutine_is_metered_until_it_is_awaited(events: Events) -> None:
    async def answer() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return ANSWER

    async def failing() -> dict[str, Any]:
        raise LookupError

    async def main() -> None:
        assert await meter(producer=events)(lambda: answer())() == ANSWER
        with pytest.raises(LookupError):
            await meter(producer=events)(lambda: failing())()

    asyncio.run(main())

    assert [event.get("status") for event in events] == [None, "error"]
    assert events[0]["input_tokens"] == COUNTS["input_tokens"]
    assert events[0]["latency_ms"] >= 20


def broken(_: Any) -> Any:
    raise RuntimeError


@pytest.mark.parametrize(
    "usage", [broken, lambda _: {"colour": "red"}, lambda _: None], ids=["raises", "wrong", "none"]
)
def test_a_usage_that_fails_breaks_nothing(events: Events, usage: Callable[[Any], Any]) -> None:
    @meter(provider="acme", model="m", producer=events, usage=usage)
    def call() -> int:
        return 1

    assert call() == 1

    assert events.only("provider", "input_tokens") == {"provider": "acme", "input_tokens": None}


def test_what_no_extractor_knows_is_an_event_that_says_so(events: Events) -> None:
    @meter(producer=events)
    def call() -> str:
        return "text"

    call()

    assert events.only("provider", "model", "estimated") == {
        "provider": "unknown",
        "model": "unknown",
        "estimated": True,
    }


def test_a_guard_refuses_before_the_function_runs(events: Events, nowhere: str) -> None:
    ran: list[bool] = []
    settings = GuardSettings(kafka=KafkaSettings(broker=nowhere), when_stale="closed")
    with Guard(settings) as guard:

        @meter(provider="acme", model="m", producer=events, guard=guard)
        def call() -> None:
            ran.append(True)

        with pytest.raises(GuardRefused, match="limits are not known yet"):
            call()

    assert (ran, events) == ([], [])


def test_guard_true_is_the_one_guard_of_the_process(
    events: Events, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENTIDE_BROKER", nowhere)
    monkeypatch.setenv("TOKENTIDE_GUARD_WHEN_STALE", "closed")
    default_guard.cache_clear()
    guard: Any = default_guard()
    try:
        with pytest.raises(GuardRefused), meter(provider="acme", model="m", producer=events, guard=True):
            pass
    finally:
        guard.close()
        default_guard.cache_clear()

    assert (guard.refused, events) == (1, [])


def test_record_sends_an_event_of_numbers_or_of_a_usage(events: Events) -> None:
    before = unattributed_calls()
    with attribution(user_id="ada", tags={"a": "1"}):
        record(producer=events, provider="acme", model="m", input_tokens=3, tags={"b": "2"})
        record(extract(ANSWER), producer=events, operation="summary", metadata={"step": 1})
    record(producer=events, provider="xai", model="m", request_id="r")

    numbers, usage, nobody = events
    assert numbers == {
        "user_id": "ada",
        "provider": "acme",
        "model": "m",
        "input_tokens": 3,
        "tags": {"a": "1", "b": "2"},
    }
    assert (usage["event_id"], usage["operation"], usage["input_tokens"]) == (
        "openai/chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcA",
        "summary",
        10,
    )
    assert (usage["metadata"]["step"], usage["metadata"]["usage_status"]) == (1, "exact")
    assert nobody["event_id"] == "x-ai/r"
    assert unattributed_calls() - before == 1


def test_record_uses_the_default_producer_and_never_raises(nowhere: str) -> None:
    with UsageProducer(broker=nowhere) as producer:
        before = set_default_producer(producer)
        try:
            record(provider="acme", model="m", timestamp=None)
            record(provider="acme", tags=7, request_id=object())
        finally:
            set_default_producer(before)

        assert producer.counters.tracked == 1
        producer.close(0)
