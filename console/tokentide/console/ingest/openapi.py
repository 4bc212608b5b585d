"""What the OpenAPI document says of a request's body, which is read by hand: one sentence for each wrong event."""

from typing import Any

from tokentide.console.ingest.incoming import MAX_EVENTS, MEDIA_TYPES
from tokentide.producers.cloud_event import EVENT_TYPE
from tokentide.schemas import UsageEvent

__all__ = ["event_schemas", "request_body"]

_REFERENCE = "#/components/schemas/{model}"
_EVENT = {"$ref": _REFERENCE.format(model="UsageEvent")}
_CLOUD_EVENT = {"$ref": _REFERENCE.format(model="CloudEvent")}


def event_schemas() -> dict[str, Any]:
    """Return the schemas that `request_body` refers to, by name."""
    event = UsageEvent.model_json_schema(ref_template=_REFERENCE)
    parts = event.pop("$defs", {})
    # Here alone: the door knows when an event came, and from the model who sells it.
    event["required"] = ["model"]
    event["description"] += "\n\nOther spellings, such as inputTokens, are accepted too: see docs/ingest.md."
    cloud_event = {
        "type": "object",
        "title": "CloudEvent",
        "properties": {
            "specversion": {"const": "1.0"},
            "type": {"const": EVENT_TYPE},
            **{name: {"type": "string"} for name in ("id", "source", "time", "subject")},
            "data": _EVENT,
        },
        "required": ["specversion", "type", "id", "source", "data"],
    }
    return {**parts, "UsageEvent": event, "CloudEvent": cloud_event}


def request_body() -> dict[str, Any]:
    """Return the request body of POST /v1/usage."""
    many = {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": MAX_EVENTS}
    batch = {"type": "object", "properties": {"events": many}, "required": ["events"]}
    json, cloud_event, cloud_events = MEDIA_TYPES
    bodies: dict[str, Any] = {
        json: {"anyOf": [_EVENT, many, batch]},
        cloud_event: _CLOUD_EVENT,
        cloud_events: {"type": "array", "items": _CLOUD_EVENT, "minItems": 1, "maxItems": MAX_EVENTS},
    }
    return {"required": True, "content": {name: {"schema": schema} for name, schema in bodies.items()}}
