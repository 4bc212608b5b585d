"""LangChain: a callback handler, for models that no client of theirs can be instrumented for.

`model.invoke(..., config={"callbacks": [langchain_callback()]})`. A streamed answer has counts when its model sends
them (`stream_usage=True` for OpenAI's with an own base_url), and estimates otherwise.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from tokentide.producers.default_guard import guard_of
from tokentide.producers.instrumentation import checked_defaults
from tokentide.producers.instrumentation.observe import Observe
from tokentide.producers.instrumentation.runs import Runs
from tokentide.producers.observation import Guards, Observation, Tracker
from tokentide.producers.observation_tally import complain

__all__ = ["langchain_callback"]

# As langchain-core says `ls_provider`; the other names are those of tokentide.schemas.provider.
_PROVIDERS = {
    "amazon_bedrock": "aws",
    "azure_ai": "azure",
    "bedrock_converse": "aws",
    "google_genai": "google",
    "google_vertexai": "google",
}


def langchain_callback(
    producer: Tracker | None = None, *, guard: Guards | bool | None = None, **defaults: Any
) -> Any:
    """Return a LangChain callback handler that meters every call of a chat model or LLM, as `instrument` does.

    Raises ImportError when langchain-core is not installed. What a guard raises reaches the caller; True stands for
    the one guard of the process.
    """
    try:
        from langchain_core.callbacks import BaseCallbackHandler
    except ImportError as error:
        raise ImportError("langchain_callback() needs langchain-core: pip install langchain-core") from error

    known = {"source": "langchain", **checked_defaults(defaults)}
    guards = guard_of(guard)
    calls = _Calls(Observe(producer, guards, known, known.pop("provider", None)))

    class TokentideLangChain(BaseCallbackHandler):
        """Meters the calls of models; inside of the caller's task or thread, for it never waits."""

        run_inline = True
        # So that a refusal of the guard reaches the caller; nothing else is raised.
        raise_error = guards is not None

        def on_chat_model_start(
            self, serialized: dict[str, Any], messages: list[list[Any]], *, run_id: UUID, **kwargs: Any
        ) -> None:
            calls.begin(run_id, {"messages": _texts(messages)}, kwargs)

        def on_llm_start(
            self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any
        ) -> None:
            calls.begin(run_id, {"prompt": list(prompts)}, kwargs)

        def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
            calls.chunk(run_id, getattr(chunk, "message", None) or {"text": str(token)})

        def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
            calls.end(run_id, response, None)

        def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
            calls.end(run_id, None, error)

    return TokentideLangChain()


class _Run:
    """One call, and how to stop listening for the end of its task."""

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.forget: Callable[[], Any] | None = None


class _Calls:
    """The open calls of one handler, by LangChain's run_id."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._runs: Runs[_Run] = Runs(lambda run: run.observation.end(GeneratorExit()))

    def begin(self, run_id: UUID, request: dict[str, Any], told: Mapping[str, Any]) -> None:
        """Begin to observe a call; raises only what the guard raises."""
        metadata, parameters = _mapping(told.get("metadata")), _mapping(told.get("invocation_params"))
        provider = str(metadata.get("ls_provider") or "other")
        names = (parameters.get("model"), parameters.get("model_name"), metadata.get("ls_model_name"))
        model = next((name for name in names if isinstance(name, str) and name), None)
        run = _Run(
            self._observe(
                _PROVIDERS.get(provider, provider),
                "chat",
                request,
                model=model,
                stream=bool(parameters.get("stream")),
            )
        )
        self._listen(run_id, run)
        self._runs.put(run_id, run)

    def chunk(self, run_id: UUID, chunk: Any) -> None:
        """Take a chunk."""
        run = self._runs.get(run_id)
        if run is not None:
            run.observation.chunk(chunk)

    def end(self, run_id: UUID, answer: Any, error: BaseException | None) -> None:
        """Send the event."""
        run = self._runs.take(run_id)
        if run is None:
            return
        if run.forget is not None:
            run.forget()
        if answer is not None:
            if _is_cached(answer):
                return  # nobody was called
            run.observation.answer(answer)
        run.observation.end(error)

    def _listen(self, run_id: UUID, run: _Run) -> None:
        """End the call with its task: langchain-core does not tell that a task was cancelled (1.8, `agenerate`)."""
        asyncio = sys.modules.get("asyncio")  # whoever does not use it has no tasks
        try:
            task = asyncio.current_task() if asyncio is not None else None
        except RuntimeError:  # no loop runs here
            return
        if asyncio is None or task is None:
            return

        def left(_: Any) -> None:
            self.end(run_id, None, asyncio.CancelledError())

        def forget() -> None:
            try:
                task.remove_done_callback(left)
            except Exception as error:
                complain("langchain", error)

        task.add_done_callback(left)
        run.forget = forget


def _is_cached(answer: Any) -> bool:
    """Whether it came out of LangChain's own cache: a cost of 0 says so (1.8, `_convert_cached_generations`)."""
    try:
        messages = [getattr(each, "message", None) for prompt in answer.generations for each in prompt]
        usages = [_mapping(getattr(message, "usage_metadata", None)) for message in messages]
        return bool(usages) and all(usage.get("total_cost") == 0 for usage in usages)
    except Exception as error:
        complain("langchain", error)
        return False


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(messages: list[list[Any]]) -> list[Any]:
    """Return what the messages say, for an estimate; read only when it is needed."""
    return [getattr(message, "content", "") for prompt in messages for message in prompt]
