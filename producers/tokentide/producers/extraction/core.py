"""From what a provider said to a Usage: checked against itself, estimated where it said nothing."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Any

from pydantic_core import from_json, to_json

from tokentide.producers.extraction.estimate import estimated_input_tokens
from tokentide.producers.extraction.plain import plain
from tokentide.producers.extraction.reading import Call, Reading, money, number, text_at
from tokentide.producers.usage import Usage, UsageStatus
from tokentide.schemas.provider import canonical_provider
from tokentide.schemas.usage import CONTAINED, EARLIEST, LATEST, MAX_COUNT

__all__ = ["usage_of"]

_MAX_REQUESTS = 10**6
_MAX_RAW_BYTES = 4096
_MAX_LABEL = 256
_PICO = Decimal(1).scaleb(-12)
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "cache_audio_read_tokens",
    "input_characters",
    "images",
    "pages",
    "web_searches",
    "tool_calls",
)
_LABELS = (
    "model_version",
    "request_id",
    "system_fingerprint",
    "service_tier",
    "speed",
    "region",
    "finish_reason",
    "image_size",
    "image_quality",
)
# A call that reports one of these is not paid by tokens alone: that it has none is no gap to fill.
_UNITS = ("audio_seconds", "input_characters", "images", "pages")
_TOKENS_FOR_INPUT = frozenset({"chat", "responses", "embeddings", "image"})
_TOKENS_FOR_OUTPUT = frozenset({"chat", "responses", "transcription"})


def usage_of(reading: Reading, call: Call) -> Usage:
    """Return the usage of the answer that was read.

    `call` names provider and operation. Raises ValueError when neither the answer nor the call names the model.
    """
    counts, credible = _counts(reading)
    credible &= not reading.is_doubtful
    total = reading.total
    api_operation = reading.facts.get("api_operation") or call.api_operation or "other"
    paid = {"input_tokens", "output_tokens"} if api_operation in _TOKENS_FOR_OUTPUT else {"input_tokens"}
    if total is not None and paid <= reading.counts.keys():
        credible &= total == counts["input_tokens"] + counts["output_tokens"]
    asked = text_at(call.request, "model") or text_at(call.request, "modelId")
    requested = _label(call.model) or _label(asked)
    model = _label(reading.facts.get("model")) or requested
    if model is None:
        raise ValueError("neither the answer nor the request names the model; pass model=")
    estimated = _estimate(reading, call.request, api_operation, model, counts)
    credible &= _fit(counts)
    status: UsageStatus = "exact" if credible else "inconsistent"
    if estimated:
        status = "estimated"
    labels_and_counts: dict[str, Any] = {name: _label(reading.facts.get(name)) for name in _LABELS}
    labels_and_counts |= counts
    processing = "batch" if reading.facts.get("processing") == "batch" else "standard"
    provider = reading.facts.get("provider") or call.provider or "other"
    return Usage(
        provider=canonical_provider(_label(provider) or "other"),
        model=model,
        api_operation=api_operation,
        request_model=requested,
        provider_created=_created(reading.facts.get("provider_created")),
        processing=processing,
        requests=_requests(reading.facts.get("requests")),
        audio_seconds=_amount(reading.counts.get("audio_seconds")) or Decimal(0),
        provider_cost_usd=_amount(reading.facts.get("provider_cost_usd")),
        usage_status=status,
        raw_usage=_bounded(reading.raw or {}),
        **labels_and_counts,
    )


def _counts(reading: Reading) -> tuple[dict[str, int], bool]:
    """Return every count, and whether all are whole, not negative, and not absurd."""
    counts, credible = dict.fromkeys(_COUNTS, 0), True
    for name, said in reading.counts.items():
        if name in counts:
            whole = said if isinstance(said, int) else int(said.to_integral_value(ROUND_CEILING))
            counts[name] = whole if 0 <= whole <= MAX_COUNT else 0
            credible &= counts[name] == said
        elif name == "audio_seconds":
            credible &= _amount(said) is not None
        else:
            raise KeyError(f"{name} is no count of UsageEvent")
    return counts, credible


def _estimate(
    reading: Reading, request: Mapping[str, Any], api_operation: str, model: str, counts: dict[str, int]
) -> bool:
    """Fill in the counts of tokens that were not reported; return whether anything was not."""
    if any(unit in reading.counts for unit in _UNITS):
        return reading.is_estimate
    estimated = reading.raw is None or reading.is_estimate
    if "input_tokens" not in reading.counts and api_operation in _TOKENS_FOR_INPUT:
        counts["input_tokens"] = _at_least_its_parts(
            "input_tokens", estimated_input_tokens(request, model), counts
        )
        estimated = True
    if "output_tokens" not in reading.counts and api_operation in _TOKENS_FOR_OUTPUT:
        counts["output_tokens"] = _at_least_its_parts("output_tokens", reading.said.tokens(model), counts)
        estimated = True
    return estimated


def _at_least_its_parts(name: str, estimate: int, counts: Mapping[str, int]) -> int:
    """Return the estimate, or what was reported of it where that is more: a cache, reasoning, sound."""
    reported = (sum(counts[part] for part in parts) for parts, whole in CONTAINED if whole == name)
    return min(max(estimate, *reported), MAX_COUNT)


def _fit(counts: dict[str, int]) -> bool:
    """Cut parts that are larger than their whole; return whether there were none.

    Of two parts that do not both fit, the first is believed.
    """
    fits = True
    for parts, whole in CONTAINED:
        room = counts[whole]
        for part in parts:
            if counts[part] > room:
                counts[part], fits = room, False
            room -= counts[part]
    return fits


def _label(value: Any) -> str | None:
    """Return the text as a field of the event holds it, None when nothing is left."""
    if not isinstance(value, str):
        return None
    if len(value) <= _MAX_LABEL and value.isascii() and value.isprintable():
        return value or None
    text = "".join(character for character in value[: 2 * _MAX_LABEL] if character > "\x1f")
    return text.encode(errors="replace").decode()[:_MAX_LABEL] or None


def _created(value: Any) -> datetime | None:
    return value if isinstance(value, datetime) and EARLIEST <= value < LATEST else None


def _requests(value: Any) -> int:
    """Return how many calls the answer is paid as, one unless it says otherwise."""
    return min(max(int(number(value) or 1), 1), _MAX_REQUESTS)


def _amount(value: Any) -> Decimal | None:
    amount = money(value)
    if amount is None or not 0 <= amount <= MAX_COUNT:
        return None
    return amount.quantize(_PICO, ROUND_HALF_EVEN).normalize() + 0


def _bounded(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object as JSON of at most 4 KiB: entries that do not fit are left out, the largest first."""
    try:
        whole = to_json(raw, inf_nan_mode="null")
        if len(whole) <= _MAX_RAW_BYTES:
            kept: dict[str, Any] = from_json(whole)
            return kept
    except ValueError:
        pass  # half of a surrogate pair, a number of thousands of digits, lists in lists without end
    return _bounded_by_entry(plain(raw))


def _bounded_by_entry(raw: Mapping[str, Any]) -> dict[str, Any]:
    sized = []
    for place, (key, value) in enumerate(raw.items()):
        try:
            text = json.dumps({key: value}, default=str, ensure_ascii=False, separators=(",", ":"))
        except ValueError:  # a number of thousands of digits
            continue
        entry = text.encode(errors="replace")
        sized.append((len(entry), place, entry))
    kept, left = [], _MAX_RAW_BYTES
    for size, place, entry in sorted(sized):
        if size <= left:
            kept.append((place, entry))
            left -= size
    return {key: value for _, entry in sorted(kept) for key, value in json.loads(entry).items()}
