"""How other systems spell the fields of a usage event, and what their values mean here.

The names are those of the trackers that people bring along: camelCase, and the columns of their tables. Only this
edge knows them: in Kafka every field has its one name.
"""

import difflib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tokentide.schemas import InvalidEventError, UsageEvent
from tokentide.schemas.provider import canonical_provider

__all__ = ["canonical_fields", "spelt_as_sent"]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_FIELDS = tuple(UsageEvent.model_fields)
_SPELLINGS: dict[str, str] = {
    **{name: name for name in _FIELDS},
    **{_camel(name): name for name in _FIELDS},
    "action_type": "operation",
    "actionType": "operation",
    "cached_tokens": "cache_read_tokens",
    "cachedTokens": "cache_read_tokens",
    "created_at": "timestamp",
    "createdAt": "timestamp",
    "executionType": "operation",
    "execution_type": "operation",
    "modelId": "model",
    "modelName": "model",
    "modelProvider": "provider",
    "modelUsed": "model",
    "model_id": "model",
    "model_name": "model",
    "model_provider": "provider",
    "model_used": "model",
    "openaiCreated": "provider_created",
    "openaiRequestId": "request_id",
    "openai_created": "provider_created",
    "openai_request_id": "request_id",
    "recipeGenerated": "status",
    "recipe_generated": "status",
    "responseTimeMs": "latency_ms",
    "response_time_ms": "latency_ms",
    "success": "status",
    "tokensUsed": "total_tokens",
    "tokens_used": "total_tokens",
}
# What such trackers know beyond the event: kept in its metadata. Costs too, since the meter computes its own.
_FACTS = frozenset(
    name
    for fact in (
        "allergen_count",
        "cached_cost_per_million",
        "calculated_cost",
        "dietary_restriction_count",
        "ingredient_count",
        "input_cost_per_million",
        "input_cost_usd",
        "output_cost_per_million",
        "output_cost_usd",
        "slide_count",
        "total_cost",
        "total_cost_usd",
    )
    for name in (fact, _camel(fact))
)
_MOMENTS = ("timestamp", "provider_created")
_AMOUNTS = ("provider_cost_usd", "audio_seconds")
_PICO = Decimal(1).scaleb(-12)
_LONGEST_ERROR = 2048
# Unix time in milliseconds is beyond this, in seconds below it: either way it is no time before 1973 or after 5138.
_MILLISECONDS_FROM = 10**11
_WITHOUT_ZONE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d+)?)?")
_ENDPOINTS = {
    "audio.speech": "speech",
    "audio.transcriptions": "transcription",
    "chat.completions": "chat",
    "embeddings": "embeddings",
    "images.generate": "image",
    "messages": "chat",
    "responses": "responses",
}
# Models that bear the name of who makes them; whoever sells others must be named.
_MAKERS = (
    ("openai", re.compile(r"(gpt-|chatgpt-|o[134](-|$)|text-embedding-|whisper-|tts-|dall-e-)")),
    ("anthropic", re.compile(r"claude-")),
    ("google", re.compile(r"gemini-")),
    ("x-ai", re.compile(r"grok-")),
)


def canonical_fields(sent: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the fields of UsageEvent that were sent, and how each was spelt; null counts as not sent.

    Raises InvalidEventError for a field that nobody knows, and for two spellings that say different things.
    """
    fields: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    facts: dict[str, Any] = {}
    for spelling, value in sent.items():
        if value is None:
            continue
        name = _SPELLINGS.get(spelling)
        if name is None:
            if spelling not in _FACTS:
                raise InvalidEventError(_unknown(spelling))
            facts[spelling] = value
            continue
        value = _meaning(name, value)
        if name in fields and fields[name] != value:
            raise InvalidEventError(
                f"{spelt[name]} and {spelling} both mean {name}, and differ; send one of them"
            )
        fields[name], spelt[name] = value, spelling
    if facts and isinstance(metadata := fields.get("metadata", {}), dict):
        fields["metadata"] = {**facts, **metadata}
    _fill_in(fields, spelt)
    return fields, spelt


def spelt_as_sent(sentence: str, spelt: Mapping[str, str]) -> str:
    """Return the sentence about an event with its fields as the sender names them."""
    for name, spelling in spelt.items():
        if spelling != name:
            sentence = re.sub(rf"\b{name}\b", spelling, sentence)
    return sentence.replace("the record: ", "")


def _unknown(spelling: str) -> str:
    close = difflib.get_close_matches(spelling, _SPELLINGS, n=1)
    meant = f", did you mean {close[0]}" if close else ""
    return f"{spelling[:64]}: there is no such field{meant}; put facts of your own into tags or metadata"


def _meaning(name: str, value: Any) -> Any:
    if name in _MOMENTS:
        return _moment(value)
    if name == "status" and isinstance(value, bool):
        return "success" if value else "error"
    if name in _AMOUNTS and isinstance(value, float):
        # What a float adds beyond a trillionth is noise of its own; a text is taken as it stands.
        return str(Decimal(repr(value)).quantize(_PICO)) if abs(value) < 10**9 else repr(value)
    if name == "error_message" and isinstance(value, str):
        return value[:_LONGEST_ERROR]
    return value


def _moment(value: Any) -> Any:
    """Return Unix time, and a time without zone, as the same time in UTC; what is neither stays."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC).isoformat()
        except (OverflowError, ValueError, OSError):
            return str(value)
    if isinstance(value, str) and _WITHOUT_ZONE.fullmatch(value):
        return f"{value}Z"
    return value


def _fill_in(fields: dict[str, Any], spelt: dict[str, str]) -> None:
    """Add what the trackers say in other words: the provider as `service`, the API as `metadata.endpoint`."""
    service = fields.get("service")
    if "provider" not in fields and isinstance(service, str) and _is_provider(service):
        fields["provider"], spelt["provider"] = fields.pop("service"), spelt.pop("service")
    metadata = fields.get("metadata", {})
    if not isinstance(metadata, dict):
        return
    endpoint = metadata.get("endpoint")
    if "api_operation" not in fields and isinstance(endpoint, str) and endpoint in _ENDPOINTS:
        fields["api_operation"] = _ENDPOINTS[endpoint]
    model = fields.get("model")
    if "provider" not in fields and isinstance(model, str):
        maker = next((maker for maker, names in _MAKERS if names.match(model)), None)
        if maker is not None:
            fields["provider"] = maker
            fields["metadata"] = {**metadata, "provider_from": "model"}


def _is_provider(name: str) -> bool:
    # Nobody spells a provider so: what comes back unchanged is not known. "other" is what trackers say for the rest.
    shouted = f"{name.upper()} "
    return name == "other" or canonical_provider(shouted) != shouted
