"""The corpus again, as objects of the SDKs instead of JSON: what a service has in its hands."""

from collections.abc import Callable
from typing import Any

import pytest
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from anthropic.types.messages import MessageBatchIndividualResponse
from cohere import EmbedByTypeResponse, V2ChatResponse, V2ChatStreamResponse, V2RerankResponse
from cohere.core.unchecked_base_model import construct_type
from google.genai import types as gemini
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, LLMResult
from ollama import ChatResponse, EmbedResponse, GenerateResponse
from pydantic import TypeAdapter
from support.golden import Payload, payloads

from tokentide.producers.extraction import ChunkReader, extract
from tokentide.producers.usage import Usage

Typed = Callable[[dict[str, Any]], Any]
EVENTS = TypeAdapter[Any](BetaRawMessageStreamEvent)


def anthropic_object(answer: dict[str, Any]) -> Any:
    """A Message, a line of a batch, or an event of a stream."""
    if "custom_id" in answer:
        return MessageBatchIndividualResponse.model_validate(answer)
    if answer["type"] == "message":
        return BetaMessage.construct(**answer)
    return EVENTS.validate_python(answer)


def gemini_object(answer: dict[str, Any]) -> Any:
    """An answer or a chunk of generate_content, of embed_content, of Imagen or of a Live session."""
    for name, kind in (
        ("embeddings", gemini.EmbedContentResponse),
        ("generatedImages", gemini.GenerateImagesResponse),
        ("generated_images", gemini.GenerateImagesResponse),
        ("serverContent", gemini.LiveServerMessage),
    ):
        if name in answer:
            return kind.model_validate(answer)
    return gemini.GenerateContentResponse.model_validate(answer)


def cohere_object(answer: dict[str, Any]) -> Any:
    """An answer of version 2, or an event of a stream."""
    kinds: dict[str, Any] = {
        "type": V2ChatStreamResponse,
        "embeddings": EmbedByTypeResponse,
        "results": V2RerankResponse,
    }
    kind = next((kinds[name] for name in kinds if name in answer), V2ChatResponse)
    return construct_type(type_=kind, object_=answer)


def ollama_object(answer: dict[str, Any]) -> Any:
    """An answer or a chunk of chat or generate, or embeddings."""
    for name, kind in (("message", ChatResponse), ("response", GenerateResponse)):
        if name in answer:
            return kind(**answer)
    return EmbedResponse(**answer)


def langchain_object(answer: dict[str, Any]) -> Any:
    """A message, a chunk of one, or the LLMResult that a callback is given."""
    if "generations" in answer:
        generations: list[Any] = [
            [ChatGeneration(message=langchain_object(each["message"])) for each in prompt]
            for prompt in answer["generations"]
        ]
        return LLMResult(generations=generations, llm_output=answer["llm_output"])
    kind = AIMessageChunk if answer["type"] == "AIMessageChunk" else AIMessage
    return kind(**{name: value for name, value in answer.items() if name != "type"})


# What the SDK's own types cannot hold: other interfaces of the provider, newer fields, numbers as text.
UNTYPED = {
    "embeddings, predict",
    "embeddings with usage",
    "Interactions API",
    "Interactions API with searches",
    "stream of the Interactions API",
    "stream of the Interactions API that was cut",
    "names of the Python SDK",
    "int64 as text",
    "service tier of the Gemini API",
    "unspecified tiers say nothing",
    "counts as text, from a proxy",
    "a stream as one JSON array",
    "events of the SDK's helper count no text twice",
    "cut by an error of the server",
    "chat of version 1",
    "stream of version 1",
    "old embeddings",
    "LLMResult of a completion model",
    "cached prompt is inside the prompt",  # ollama 0.6.3 drops prompt_eval_cached_count
}
TYPED: dict[str, Typed] = {
    "anthropic": anthropic_object,
    "google": gemini_object,
    "cohere": cohere_object,
    "ollama": ollama_object,
    "langchain": langchain_object,
}
CORPUS = [payload for payload in payloads(*TYPED) if payload.name not in UNTYPED]


def extracted(payload: Payload, typed: Typed) -> Usage:
    """The usage of the objects that the SDK makes of the payload."""
    if payload.chunks is None:
        return extract(typed(payload.response), **payload.call)
    reader = ChunkReader(**payload.call)
    for chunk in payload.chunks:
        if chunk.get("type") != "ping":  # the SDK swallows it
            reader.add(typed(chunk))
    return reader.usage()


@pytest.mark.parametrize("payload", CORPUS, ids=lambda payload: f"{payload.file}: {payload.name}")
def test_an_object_of_an_sdk_is_read_like_its_json(payload: Payload) -> None:
    usage = extracted(payload, TYPED[payload.file.partition("/")[0]])

    assert payload.differences(usage) == {}
