"""Asking a streamed chat for its usage, where the service did not."""

from collections.abc import Mapping
from typing import Any

from tokentide.producers.instrumentation.endpoints import api_operation_of
from tokentide.producers.observation_tally import complain

__all__ = ["IncludeUsage"]

# They tell the usage of a stream unasked, and may refuse a field they do not know.
_UNASKED = frozenset({"anthropic", "cohere", "mistral", "perplexity"})
_AZURE_SINCE = "2024-09-01"


class IncludeUsage:
    """Adds `stream_options.include_usage` to the chats of one client, until its server refuses it.

    `refusing` are the addresses of servers that did; a client and its copies, often made for one call, share them.
    """

    def __init__(self, client: Any, refusing: set[str]) -> None:
        version = getattr(client, "_api_version", None)
        self._is_understood = not (isinstance(version, str) and version[:1] == "2" and version < _AZURE_SINCE)
        self._client = client
        self._refusing = refusing

    def add(self, options: Any, provider: str) -> bool:
        """Add it to the call that these options make; return whether it was added."""
        body = options.json_data
        if not self._is_understood or provider in _UNASKED or not isinstance(body, Mapping):
            return False
        if str(self._client.base_url) in self._refusing:
            return False
        # A chat of OpenAI's kind, new or legacy: /messages and /responses tell it unasked.
        if api_operation_of(options.url) != "chat" or "completions" not in options.url:
            return False
        extra = getattr(options, "extra_json", None)
        if isinstance(extra, Mapping) and "stream_options" in extra:
            return False
        asked = body.get("stream_options")
        if asked is not None and (not isinstance(asked, Mapping) or "include_usage" in asked):
            return False
        # A new dict: the service's own stays as it is.
        options.json_data = {**body, "stream_options": {**(asked or {}), "include_usage": True}}
        return True

    def was_refused(self, options: Any, error: Exception) -> bool:
        """Return whether the server refused what `add` added; it is taken back then, from all later calls too."""
        if getattr(error, "status_code", None) not in (400, 422) or "stream_options" not in str(error):
            return False
        body = dict(options.json_data)
        asked = dict(body.pop("stream_options"))
        del asked["include_usage"]
        options.json_data = body | ({"stream_options": asked} if asked else {})
        self._refusing.add(str(self._client.base_url))
        complain("include_usage", "the server refuses stream_options: usage of its streams is estimated")
        return True
