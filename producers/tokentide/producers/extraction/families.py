"""Which family reads what: by the form of an answer, else by who was called for what.

To add a family, write a module with `read`, `fold` and `looks_like`, and add its lines to the tables.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tokentide.producers.extraction import (
    anthropic,
    bedrock,
    cohere,
    gemini,
    interactions,
    langchain,
    litellm,
    lmstudio,
    mistral_ocr,
    ollama,
    openai_audio,
    openai_chat,
    openai_embeddings,
    openai_images,
    openai_responses,
)
from tokentide.producers.extraction.reading import Call, Family

__all__ = ["LIBRARIES", "family_of", "form_of", "meant_by"]

OPENAI_CHAT = Family(openai_chat.read, openai_chat.fold, "openai", "chat")
OPENAI_RESPONSES = Family(openai_responses.read, openai_responses.fold, "openai", "responses")
OPENAI_EMBEDDINGS = Family(openai_embeddings.read, openai_embeddings.fold, "openai", "embeddings")
OPENAI_IMAGES = Family(openai_images.read, openai_images.fold, "openai", "image")
OPENAI_SPEECH = Family(openai_audio.read_speech, openai_audio.fold_speech, "openai", "speech")
OPENAI_TRANSCRIPTION = Family(
    openai_audio.read_transcription, openai_audio.fold_transcription, "openai", "transcription"
)
ANTHROPIC = Family(anthropic.read, anthropic.fold, "anthropic", "chat")
GEMINI = Family(gemini.read, gemini.fold, "google", "chat")
INTERACTIONS = Family(interactions.read, interactions.fold, "google", "chat")
BEDROCK = Family(bedrock.read, bedrock.fold, "aws", "chat")
COHERE = Family(cohere.read, cohere.fold, "cohere", "chat")
OLLAMA = Family(ollama.read, ollama.fold, "ollama", "chat")
LM_STUDIO = Family(lmstudio.read, lmstudio.fold, "lmstudio", "chat")
MISTRAL_OCR = Family(mistral_ocr.read, mistral_ocr.fold, "mistral", "ocr")
LITELLM = Family(litellm.read, litellm.fold, "litellm", "chat")
LANGCHAIN = Family(langchain.read, langchain.fold, "langchain", "chat")

# Named like a provider, but no provider: what they hand on says who answered.
LIBRARIES = {"litellm": LITELLM, "langchain": LANGCHAIN}

# The first that fits. Forms come before names: many providers also speak OpenAI's language, or another's.
BY_FORM: tuple[tuple[Callable[[Mapping[str, Any]], bool], Family], ...] = (
    (litellm.looks_like, LITELLM),
    (langchain.looks_like, LANGCHAIN),
    (openai_chat.looks_like, OPENAI_CHAT),
    (openai_responses.looks_like, OPENAI_RESPONSES),
    (openai_embeddings.looks_like, OPENAI_EMBEDDINGS),
    (openai_images.looks_like, OPENAI_IMAGES),
    (openai_audio.looks_like_speech, OPENAI_SPEECH),
    (openai_audio.looks_like_transcription, OPENAI_TRANSCRIPTION),
    (anthropic.looks_like, ANTHROPIC),
    (gemini.looks_like, GEMINI),
    (interactions.looks_like, INTERACTIONS),
    (bedrock.looks_like, BEDROCK),
    (cohere.looks_like, COHERE),
    (ollama.looks_like, OLLAMA),
    (mistral_ocr.looks_like, MISTRAL_OCR),
    (lmstudio.looks_like, LM_STUDIO),
)

# For answers without a form of their own: streams cut before the first chunk, plain text, binary bodies.
BY_CALL: dict[tuple[str, str], Family] = {
    ("anthropic", "chat"): ANTHROPIC,
    ("aws", "chat"): BEDROCK,
    ("aws", "embeddings"): BEDROCK,
    ("cohere", "chat"): COHERE,
    ("cohere", "embeddings"): COHERE,
    ("cohere", "rerank"): COHERE,
    ("google", "chat"): GEMINI,
    ("google", "embeddings"): GEMINI,
    ("google", "image"): GEMINI,
    ("mistral", "ocr"): MISTRAL_OCR,
    ("ollama", "chat"): OLLAMA,
    ("ollama", "embeddings"): OLLAMA,
}

# Everybody else is taken for a server that speaks like OpenAI.
BY_OPERATION: dict[str, Family] = {
    "embeddings": OPENAI_EMBEDDINGS,
    "image": OPENAI_IMAGES,
    "responses": OPENAI_RESPONSES,
    "speech": OPENAI_SPEECH,
    "transcription": OPENAI_TRANSCRIPTION,
}


def family_of(answer: Mapping[str, Any], call: Call) -> Family | None:
    """Return the family that reads the answer; None when nothing tells."""
    return form_of(answer, call) or meant_by(call)


def form_of(answer: Mapping[str, Any], call: Call) -> Family | None:
    """Return the family whose form the answer, or a chunk of it, has; None for none."""
    if call.provider in LIBRARIES:
        return LIBRARIES[call.provider]
    for looks_like, family in BY_FORM:
        if looks_like(answer):
            return family
    return None


def meant_by(call: Call) -> Family | None:
    """Return the family of who was called for what; None when the call names neither."""
    if call.provider in LIBRARIES:
        return LIBRARIES[call.provider]
    if call.provider is None and call.api_operation is None:
        return None
    operation = call.api_operation or "chat"
    return BY_CALL.get((call.provider or "", operation)) or BY_OPERATION.get(operation, OPENAI_CHAT)
