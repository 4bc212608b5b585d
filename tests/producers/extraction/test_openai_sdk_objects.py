"""The objects of the SDKs say what their JSON says."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cerebras.cloud.sdk.types.chat as cerebras_chat
import groq.types.chat as groq_chat
import openai.types as openai_types
import openai.types.audio as openai_audio
import openai.types.chat as openai_chat
import openai.types.responses as openai_responses
import pytest
import together.types.chat as together_chat
from cerebras.cloud.sdk._models import construct_type as cerebras_construct
from groq._models import construct_type as groq_construct
from mistralai.client.models import ChatCompletionResponse as MistralAnswer
from openai._models import construct_type as openai_construct
from support.golden import Payload, payloads
from together._models import construct_type as together_construct

from tokentide.producers.extraction import extract
from tokentide.producers.extraction.plain import plain

# As the clients do it: values are taken as they come, nothing is refused.
CONSTRUCT: dict[str, Callable[..., Any]] = {
    "openai": openai_construct,
    "groq": groq_construct,
    "cerebras": cerebras_construct,
    "together": together_construct,
}
ANSWERS: dict[tuple[str, str], Any] = {
    ("openai", "chat"): openai_chat.ChatCompletion,
    ("openai", "responses"): openai_responses.Response,
    ("openai", "embeddings"): openai_types.CreateEmbeddingResponse,
    ("openai", "image"): openai_types.ImagesResponse,
    ("openai", "transcription"): openai_audio.Transcription,
    ("groq", "chat"): groq_chat.ChatCompletion,
    ("cerebras", "chat"): cerebras_chat.chat_completion.ChatCompletionResponse,
    ("together", "chat"): together_chat.ChatCompletion,
}
CHUNKS: dict[tuple[str, str], Any] = {
    ("openai", "chat"): openai_chat.ChatCompletionChunk,
    ("openai", "responses"): openai_responses.ResponseStreamEvent,
    ("groq", "chat"): groq_chat.ChatCompletionChunk,
    ("cerebras", "chat"): cerebras_chat.chat_completion.ChatChunkResponse,
}
SPEAKING_OPENAI = {"azure", "x-ai", "deepseek", "openrouter", "perplexity", "lmstudio", "ollama", "fireworks"}


def as_object(payload: Payload) -> Any:
    """The payload as the SDK of its provider returns it; None when there is no such type here."""
    usage = payload.extracted()
    sdk = "openai" if usage.provider in SPEAKING_OPENAI else usage.provider
    body = json.loads(
        json.dumps(payload.response if payload.chunks is None else payload.chunks, default=float)
    )
    kinds = ANSWERS if payload.chunks is None else CHUNKS
    kind = kinds.get((sdk, usage.api_operation))
    objects = body if isinstance(body, list) else [body]
    if kind is None or not all(isinstance(each, dict) and "custom_id" not in each for each in objects):
        return None
    built = [CONSTRUCT[sdk](type_=kind, value=each) for each in objects]
    return built if payload.chunks is not None else built[0]


OBJECTS = [
    (payload, built)
    for payload in payloads("openai")
    if payload.chunks != [] and not isinstance(payload.response, bytes) and (built := as_object(payload))
]


def test_most_of_the_corpus_comes_as_objects_too() -> None:
    assert len(OBJECTS) >= 100


@pytest.mark.parametrize(
    ("payload", "built"), OBJECTS, ids=[f"{payload.file}: {payload.name}" for payload, _ in OBJECTS]
)
def test_an_object_says_what_its_json_says(payload: Payload, built: Any) -> None:
    usage = extract(built, **payload.call)

    assert payload.differences(usage) == {}


def test_an_answer_of_mistral() -> None:
    answer = MistralAnswer.model_validate(
        {
            "id": "cmpl-e5cc70bb28c444948073e77776eb30ef",
            "object": "chat.completion",
            "created": 1702256327,
            "model": "mistral-small-latest",
            "usage": {
                "prompt_tokens": 16,
                "completion_tokens": 34,
                "total_tokens": 50,
                "prompt_tokens_details": {"cached_tokens": 8},
            },
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
            ],
        }
    )

    usage = extract(answer, "mistral")

    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (16, 34, 8)
    assert (usage.usage_status, usage.finish_reason) == ("exact", "stop")


def test_any_object_becomes_plain() -> None:
    class Slotted:
        __slots__ = ("_hidden", "usage")

        def __init__(self) -> None:
            self.usage, self._hidden = {"prompt_tokens": 3}, 1

    class Broken:
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            raise RuntimeError("half built")

    loop: dict[str, Any] = {}
    loop["again"] = loop

    assert plain(Slotted()) == {"usage": {"prompt_tokens": 3}}
    assert plain(SimpleNamespace(a=1, _b=2, c=(1, {2}), d=b"sound", e=print, f=[0.5, 0.25])) == {
        "a": 1,
        "c": [1, [2]],
        "d": "",
        "e": None,
        "f": [],
    }
    assert plain(Broken()) is None
    assert json.dumps(plain(loop)).count("again") < 30
    assert plain([[]] * 100_000)[-1] is None
