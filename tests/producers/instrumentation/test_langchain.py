"""LangChain's callback: one event for each call of a model, whatever way it ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from support.model_server import Recorder

from tokentide.producers import GuardRefused
from tokentide.producers.attribution import attribution
from tokentide.producers.default_guard import default_guard
from tokentide.producers.instrumentation.langchain_callback import langchain_callback

USAGE: Any = {
    "input_tokens": 100,
    "output_tokens": 50,
    "total_tokens": 150,
    "input_token_details": {"cache_read": 40},
    "output_token_details": {"reasoning": 30},
}
METADATA = {"model_name": "claude-haiku-4-5", "model_provider": "anthropic", "id": "msg-1"}
COUNTS = {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40, "reasoning_tokens": 30}


class Model(BaseChatModel):
    """A chat model as an integration package writes one, with nobody behind it."""

    error: BaseException | None = None
    waits: bool = False

    @property
    def _llm_type(self) -> str:
        return "local"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "anthropic", "ls_model_name": "claude-haiku", "ls_model_type": "chat"}

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if self.error is not None:
            raise self.error
        message = AIMessage("Hello", usage_metadata=USAGE, response_metadata=METADATA)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        if self.waits:
            await asyncio.sleep(30)
        return self._generate(messages)

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content="Hel", response_metadata=METADATA))
        yield ChatGenerationChunk(message=AIMessageChunk(content="lo", usage_metadata=USAGE))

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk


@pytest.fixture
def config(recorder: Recorder) -> Any:
    return {"callbacks": [langchain_callback(recorder, service="shop")]}


def chosen(event: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    return {name: event.get(name) for name in names}


def test_an_answer(recorder: Recorder, config: Any) -> None:
    with attribution(user_id="ada"):
        Model().invoke("Say hello", config)

    expected = {
        **COUNTS,
        "provider": "anthropic",
        "model": "claude-haiku-4-5",
        "request_model": "claude-haiku",
        "event_id": "anthropic/msg-1",
        "source": "langchain",
        "service": "shop",
        "user_id": "ada",
    }
    assert chosen(recorder.only(), expected) == expected


def test_a_stream(recorder: Recorder, config: Any) -> None:
    text = "".join(str(chunk.content) for chunk in Model().stream("Say hello", config))

    assert text == "Hello"
    expected = {**COUNTS, "event_id": "anthropic/msg-1", "stream": True}
    assert chosen(recorder.only(), expected) == expected
    assert recorder.only()["ttft_ms"] >= 0


def test_a_stream_that_is_left_early(recorder: Recorder, config: Any) -> None:
    for _ in Model().stream("Say hello", config):
        break

    event = recorder.only()
    assert (event["status"], event["estimated"], event["output_tokens"]) == ("cancelled", True, 1)


def test_an_error(recorder: Recorder, config: Any) -> None:
    with pytest.raises(RuntimeError):
        Model(error=RuntimeError("Say hello")).invoke("Say hello", config)

    event = recorder.only()
    assert (event["status"], event["error_type"]) == ("error", "RuntimeError")
    assert event.get("input_tokens", 0) == 0


def test_an_answer_out_of_langchains_own_cache_is_no_call(recorder: Recorder, config: Any) -> None:
    """The first answer to a prompt costs; who asks for it again, or after a restart, pays nothing."""
    model = Model(cache=InMemoryCache())

    with attribution(user_id="ada"):
        model.invoke("Say hello", config)
    with attribution(user_id="bob"):
        assert model.invoke("Say hello", config).content == "Hello"
        assert asyncio.run(model.ainvoke("Say hello", config)).content == "Hello"

    assert recorder.only()["user_id"] == "ada"


def test_asynchronous_calls(recorder: Recorder, config: Any) -> None:
    async def calls() -> None:
        await Model().ainvoke("Say hello", config)
        async for _ in Model().astream("Say hello", config):
            pass

    asyncio.run(calls())

    assert [event["output_tokens"] for event in recorder.events] == [50, 50]


def test_a_task_that_is_cancelled(recorder: Recorder, config: Any) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(Model(waits=True).ainvoke("Say hello", config))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())

    assert recorder.only()["status"] == "cancelled"


def test_a_model_without_messages_is_estimated(recorder: Recorder, config: Any) -> None:
    class Completion(FakeListLLM):
        @property
        def _identifying_params(self) -> dict[str, Any]:
            return {"model_name": "tiny"}

    Completion(responses=["Hello"]).invoke("Say hello", config)

    event = recorder.only()
    assert event["estimated"]
    assert (event["input_tokens"], event["output_tokens"]) == (3, 2)


def test_a_refusal_reaches_the_caller(recorder: Recorder) -> None:
    class Refusing:
        def require(self, *args: Any, **kwargs: Any) -> None:
            raise PermissionError("over budget")

    with pytest.raises(PermissionError):
        Model().invoke("Say hello", {"callbacks": [langchain_callback(recorder, guard=Refusing())]})

    assert recorder.events == []


def test_guard_true_is_the_one_guard_of_the_process(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENTIDE_BROKER", "127.0.0.1:9")
    monkeypatch.setenv("TOKENTIDE_GUARD_WHEN_STALE", "closed")
    default_guard.cache_clear()
    guard: Any = default_guard()
    try:
        with pytest.raises(GuardRefused):
            Model().invoke("Say hello", {"callbacks": [langchain_callback(recorder, guard=True)]})
    finally:
        guard.close()
        default_guard.cache_clear()

    assert recorder.events == []
