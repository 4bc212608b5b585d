"""The model of a call of Bedrock: its answers do not say what was asked for, and that is what has a price."""

from collections.abc import Mapping
from typing import Any

from tokentide.producers.extraction.reading import Call, text_at

__all__ = ["called", "requested"]


def called(answer: Mapping[str, Any], call: Call) -> dict[str, str | None]:
    """Return model and region, out of the id or ARN that was asked for or that a prompt router chose."""
    chosen = text_at(answer, "trace", "promptRouter", "invokedModelId") or requested(call)
    parts = chosen.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return {"model": chosen or None}
    kind, _, name = parts[5].partition("/")
    # An application's profile is named at random: only the whole ARN tells what it is.
    model = chosen if kind == "application-inference-profile" else name or chosen
    return {"model": model, "region": parts[3] or None}


def requested(call: Call) -> str:
    """Return the id or ARN that was asked for, empty when it is not known."""
    return call.model or text_at(call.request, "modelId") or text_at(call.request, "model") or ""
