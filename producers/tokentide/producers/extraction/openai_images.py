"""Pictures in OpenAI's form: gpt-image is paid by tokens, dall-e by picture, size and quality."""

from collections.abc import Mapping
from typing import Any

from tokentide.producers.extraction.openai_usage import cost_usd, tokens_of, total_with
from tokentide.producers.extraction.reading import Call, Reading, mapping_at, moment, text_at

__all__ = ["fold", "looks_like", "read"]

_EVENTS = ("image_generation.", "image_edit.")
_KEPT = ("created", "created_at", "model", "size", "quality", "usage", "svg_usage")
# What OpenAI draws when the request does not say: its API reference, "Create image".
_DALL_E = {"size": "1024x1024", "quality": "standard"}


def looks_like(answer: Mapping[str, Any]) -> bool:
    """Whether these are pictures, or an event of their stream."""
    if (text_at(answer, "type") or "").startswith(_EVENTS):
        return True
    data = answer.get("data")
    return (
        isinstance(data, list)
        and bool(data)
        and isinstance(data[0], Mapping)
        and ("b64_json" in data[0] or "url" in data[0])
    )


def read(answer: Mapping[str, Any], call: Call) -> Reading:
    """Read pictures; what does not stand in the answer is taken from the request."""
    usage = mapping_at(answer, "usage")
    tokens = tokens_of(usage, call.provider, "image")
    counts = tokens.counts
    reported = bool(counts)
    if "output_tokens" in counts:
        counts.setdefault("output_image_tokens", counts["output_tokens"])
    data = answer.get("data")
    images = answer.get("_images", 0) + (len(data) if isinstance(data, list) else 0)
    if images:
        counts["images"] = images
    written = mapping_at(answer, "svg_usage")
    model = text_at(answer, "model") or call.model or text_at(call.request, "model")
    if model is None and call.provider == "openai" and not reported:
        model = "dall-e-2"
    return Reading(
        counts=counts,
        facts={
            "model": model,
            "provider_created": moment(answer.get("created") or answer.get("created_at")),
            "image_size": _chosen("size", answer, call, model),
            "image_quality": _chosen("quality", answer, call, model),
            "provider_cost_usd": cost_usd(usage),
        },
        raw={**usage, "svg_usage": written} if written else usage or None,
        total=total_with(tokens, written),
    )


def fold(answer: dict[str, Any], chunk: Mapping[str, Any]) -> None:
    """Add an event: pictures that are not finished are part of the price of the finished one."""
    for key in _KEPT:
        if chunk.get(key):
            answer[key] = chunk[key]
    data = chunk.get("data")
    finished = (text_at(chunk, "type") or "").endswith(".completed")
    answer["_images"] = answer.get("_images", 0) + finished + (len(data) if isinstance(data, list) else 0)


def _chosen(name: str, answer: Mapping[str, Any], call: Call, model: str | None) -> str | None:
    """Return the size or quality: "auto" leaves the choice to the model, and says nothing."""
    for source in (answer, call.request):
        chosen = text_at(source, name)
        if chosen and chosen != "auto":
            return chosen
    return _DALL_E[name] if model in ("dall-e-2", "dall-e-3") else None
