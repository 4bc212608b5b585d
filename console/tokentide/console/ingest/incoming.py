"""What stands in a request: usage events, bare or as CloudEvents 1.0, one or many."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from pydantic_core import from_json

from tokentide.console.ingest.refusal import Refusal
from tokentide.producers.cloud_event import EVENT_TYPE
from tokentide.schemas import InvalidEventError

__all__ = ["ATTRIBUTES", "MAX_EVENTS", "MEDIA_TYPES", "Incoming", "events_in", "unwrapped"]

MAX_EVENTS = 1000
"""The most events of a request."""

JSON = "application/json"
CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"
MEDIA_TYPES = (JSON, CLOUD_EVENT, CLOUD_EVENTS)
"""Not what an HTML form can send: a page of somebody else must not be able to post here."""

ATTRIBUTES = {"timestamp": "time", "user_id": "subject"}
"""Which attribute of a CloudEvent stands for a field that its event leaves out."""

_HEADER = "ce-"
# A pair of surrogates, half of one, which is JSON but no text, or another escape.
_ESCAPE = re.compile(
    rb"(?is)\\(?:u d[89ab][0-9a-f]{2} \\u d[c-f][0-9a-f]{2} | (?P<half> u d[89a-f][0-9a-f]{2}) | .)",
    re.VERBOSE,
)


class Incoming(NamedTuple):
    """One event as it was sent, and what its envelope says where it says nothing itself."""

    usage: Mapping[str, Any]
    envelope: Mapping[str, Any]
    origin: tuple[str, str] | None = None
    """Source and id of a CloudEvent, which name it together."""


def events_in(headers: Mapping[str, str], body: bytes) -> list[Any]:
    """Return the events of a request, each as `unwrapped` takes it.

    Raises Refusal: 415 for another media type, 400 for what is no JSON or holds no event, 413 for too many.
    """
    media_type, _, parameters = headers.get("content-type", "").partition(";")
    media_type = media_type.strip().lower()
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if media_type not in MEDIA_TYPES or charset not in ("", "charset=utf-8"):
        raise Refusal(
            415, f"Send JSON in UTF-8, with one of these as Content-Type: {', '.join(MEDIA_TYPES)}."
        )
    sent = _parsed(body)
    # A CloudEvent that is in the body may repeat its attributes as headers: only those of the body count then.
    attributes = _attributes(headers) if media_type == JSON else {}
    if attributes:
        if not isinstance(sent, dict):
            raise Refusal(
                400, "The headers ce-... are those of one CloudEvent: the body must be one JSON object."
            )
        return [{**attributes, "data": sent}]
    events = _listed(sent)
    if isinstance(sent, list) != (media_type == CLOUD_EVENTS) and media_type != JSON:
        raise Refusal(400, f"{CLOUD_EVENTS} is for an array of events, {CLOUD_EVENT} for one.")
    if media_type != JSON and not all(isinstance(each, dict) and "specversion" in each for each in events):
        raise Refusal(400, f"Each event of {media_type} must be a JSON object with specversion.")
    if not events:
        raise Refusal(400, "The request holds no event.")
    if len(events) > MAX_EVENTS:
        raise Refusal(413, f"The request holds {len(events)} events: send at most {MAX_EVENTS} at once.")
    return events


def unwrapped(event: Any) -> Incoming:
    """Return the usage event, which a CloudEvent holds as its `data`.

    Raises InvalidEventError for what is no JSON object, and for a CloudEvent of another version or type.
    """
    if not isinstance(event, dict):
        raise InvalidEventError("the event is no JSON object")
    if "specversion" not in event:
        return Incoming(event, {})
    if event["specversion"] != "1.0":
        raise InvalidEventError("specversion: must be 1.0")
    if event.get("type") != EVENT_TYPE:
        raise InvalidEventError(f"type: must be {EVENT_TYPE}, the CloudEvent of a usage event")
    source, name = event.get("source"), event.get("id")
    if not (isinstance(source, str) and source and isinstance(name, str) and name):
        raise InvalidEventError("source and id: a CloudEvent must have both, as text")
    if not _is_json(event.get("datacontenttype")) or not isinstance(event.get("data"), dict):
        raise InvalidEventError(f"data: must be the usage event, as a JSON object of {JSON}")
    said = {name: event.get(attribute) for name, attribute in ATTRIBUTES.items()}
    envelope = {name: value for name, value in said.items() if value is not None}
    return Incoming(event["data"], envelope, (source, name))


def _parsed(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        if "hex escape" in str(error):
            whole = _ESCAPE.sub(lambda found: rb"\ufffd" if found["half"] else found[0], body)
            if whole != body:
                return _parsed(whole)
        raise Refusal(400, f"The body is no JSON: {error}.") from error


def _attributes(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(_HEADER): unquote(value)
        for name, value in headers.items()
        if name.startswith(_HEADER)
    }


def _is_json(media_type: Any) -> bool:
    return media_type is None or str(media_type).partition(";")[0].strip().lower() == JSON


def _listed(sent: Any) -> list[Any]:
    if isinstance(sent, list):
        return sent
    if not isinstance(sent, dict):
        raise Refusal(400, "Send a JSON object, an array of them, or an object with the array in `events`.")
    if "events" not in sent:
        return [sent]
    if not isinstance(sent["events"], list) or len(sent) > 1:
        raise Refusal(400, "An object with `events` must hold an array there, and nothing else.")
    return sent["events"]
