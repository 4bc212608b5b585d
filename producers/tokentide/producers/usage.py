"""What one answer of a model used, in the fields of UsageEvent."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic_core import to_json

from tokentide.schemas.usage import MAX_METADATA_BYTES

__all__ = ["Usage", "UsageStatus", "event_id_of", "joined_metadata", "names_a_call"]

UsageStatus = Literal["exact", "inconsistent", "estimated"]
"""Reported and adding up; reported, but contradicting itself; not reported (in part)."""

_EVENT_ID_LENGTH = 128
# Ollama draws one of 999 numbers for each answer of its OpenAI-like API.
_NO_ID = re.compile(r"(chatcmpl|cmpl)-\d{1,6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one answer used; names and meanings of the fields are UsageEvent's.

    Counts are tokens and inclusive: `input_tokens` holds what was read from and written to a cache, `output_tokens`
    holds reasoning; a part is never larger than its whole. `tool_calls` are the calls of tools that the answer
    asks for or reports, without `web_searches`.
    """

    provider: str
    model: str
    api_operation: str = "chat"
    request_model: str | None = None
    model_version: str | None = None
    request_id: str | None = None
    provider_created: datetime | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    speed: str | None = None
    region: str | None = None
    finish_reason: str | None = None
    processing: str = "standard"

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    cache_audio_read_tokens: int = 0
    audio_seconds: Decimal = Decimal(0)
    input_characters: int = 0
    images: int = 0
    image_size: str | None = None
    image_quality: str | None = None
    pages: int = 0
    web_searches: int = 0
    tool_calls: int = 0
    requests: int = 1

    provider_cost_usd: Decimal | None = None
    usage_status: UsageStatus = "exact"
    raw_usage: Mapping[str, Any] = field(default_factory=dict)
    """The provider's own usage object, at most 4 KiB of JSON; empty when it gave none."""

    @property
    def estimated(self) -> bool:
        """Whether a count was estimated from text, because the provider did not report it."""
        return self.usage_status == "estimated"

    def buckets(self) -> dict[str, int]:
        """Return disjoint counts of tokens; they add up to input_tokens + output_tokens.

        `input` and `output` are plain text; a cached token is in a cache bucket only, whatever it is of.
        """
        read = min(self.cache_read_tokens, self.input_tokens)
        write = min(self.cache_write_tokens, self.input_tokens - read)
        write_1h = min(self.cache_write_1h_tokens, write)
        uncached = self.input_tokens - read - write
        audio = min(max(self.input_audio_tokens - self.cache_audio_read_tokens, 0), uncached)
        image = min(self.input_image_tokens, uncached - audio)
        reasoning = min(self.reasoning_tokens, self.output_tokens)
        spoken = min(self.output_audio_tokens, self.output_tokens - reasoning)
        drawn = min(self.output_image_tokens, self.output_tokens - reasoning - spoken)
        return {
            "input": uncached - audio - image,
            "input_audio": audio,
            "input_image": image,
            "cache_read": read,
            "cache_write": write - write_1h,
            "cache_write_1h": write_1h,
            "output": self.output_tokens - reasoning - spoken - drawn,
            "reasoning": reasoning,
            "output_audio": spoken,
            "output_image": drawn,
        }

    def fields(self) -> dict[str, Any]:
        """Return keyword arguments for UsageProducer.track(): only what is set, and where it comes from."""
        said = {
            name: value
            for name, default in _REPORTED.items()
            if (value := getattr(self, name)) != default or name in _ALWAYS
        }
        if self.estimated:
            said["estimated"] = True
        metadata: dict[str, Any] = {"usage_status": self.usage_status}
        if self.raw_usage:
            metadata["raw_usage"] = dict(self.raw_usage)
        return {**said, "metadata": metadata}


_ALWAYS = ("provider", "model", "api_operation")
_REPORTED = {
    each.name: each.default for each in fields(Usage) if each.name not in ("usage_status", "raw_usage")
}


def joined_metadata(own: Mapping[str, Any], read: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of an event: what the service says, and what `Usage.fields()` adds.

    An event holds 8 KiB: when that is too little for both, the provider's usage object gives way, and then the rest
    of what was read. The event counts in any case.
    """
    joined = {**own, **read}
    if own and len(to_json(joined, inf_nan_mode="null", fallback=str)) > MAX_METADATA_BYTES:
        joined.pop("raw_usage", None)
        if len(to_json(joined, inf_nan_mode="null", fallback=str)) > MAX_METADATA_BYTES:
            return dict(own)
    return joined


def names_a_call(request_id: str) -> bool:
    """Return whether no other call has this id: some servers draw numbers that come again."""
    return bool(request_id) and not _NO_ID.fullmatch(request_id)


def event_id_of(provider: str, request_id: str) -> str:
    """Return the event_id of the call that the provider answered with this id.

    Whoever observes the call makes the same one, so it counts once. An id that would be too long for an
    event_id, or holds control characters, is replaced by its SHA-256.
    """
    event_id = f"{provider}/{request_id}"
    if len(event_id) <= _EVENT_ID_LENGTH and all(character > "\x1f" for character in event_id):
        return event_id
    digest = hashlib.sha256(event_id.encode(errors="surrogatepass")).hexdigest()
    return (
        f"{provider[:32]}/sha256-{digest}"
        if provider.isascii() and provider.isprintable()
        else f"sha256-{digest}"
    )
