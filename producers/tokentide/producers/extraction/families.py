"""Which family reads what: by the form of an answer, else by who was called for what.

To add a family, write a module with `read`, `fold` and `looks_like`, and add its lines to the tables.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tokentide.producers.extraction import openai_chat
from tokentide.producers.extraction.reading import Call, Family

__all__ = ["family_of"]

OPENAI_CHAT = Family(openai_chat.read, openai_chat.fold, "openai", "chat")

# The first that fits. Forms come before names: many providers also speak OpenAI's language, or another's.
BY_FORM: tuple[tuple[Callable[[Mapping[str, Any]], bool], Family], ...] = (
    (openai_chat.looks_like, OPENAI_CHAT),
)

# For answers without a form of their own: streams cut before the first chunk, plain text, binary bodies.
BY_CALL: dict[tuple[str, str], Family] = {}

# Everybody else is taken for a server that speaks like OpenAI.
BY_OPERATION: dict[str, Family] = {
    "chat": OPENAI_CHAT,
}


def family_of(answer: Mapping[str, Any], call: Call) -> Family | None:
    """Return the family that reads the answer, or a chunk of it; None when nothing tells."""
    for looks_like, family in BY_FORM:
        if looks_like(answer):
            return family
    if call.provider is None and call.api_operation is None:
        return None
    operation = call.api_operation or "chat"
    return BY_CALL.get((call.provider or "", operation)) or BY_OPERATION.get(operation)
