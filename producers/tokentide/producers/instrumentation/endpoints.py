"""Which paths of an API are calls of a model."""

import re
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["OPERATIONS", "api_operation_of"]

OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "/audio/speech": "speech",
        "/audio/transcriptions": "transcription",
        "/audio/translations": "transcription",
        "/chat/completions": "chat",
        "/complete": "chat",
        "/completions": "chat",
        "/embeddings": "embeddings",
        "/images/edits": "image",
        "/images/generations": "image",
        "/images/variations": "image",
        "/messages": "chat",
        "/rerank": "rerank",
        "/responses": "responses",
        "/responses/compact": "responses",
    }
)
"""The path of a POST, without what stands before it and behind it -> `api_operation`.

Free ones (moderations, token counts), batches and jobs (their answer tells no usage yet) are not there.
"""

# /openai/v1/chat/completions at groq, /v1/messages?beta=true at anthropic.
_BEFORE = re.compile(r"^/?(?:openai/)?(?:v\d+/)?(?:openai/)?")


def api_operation_of(path: str) -> str | None:
    """Return what kind of call a POST to the path is; None when it is no call of a model."""
    return OPERATIONS.get("/" + _BEFORE.sub("", path.partition("?")[0].rstrip("/"), count=1))
