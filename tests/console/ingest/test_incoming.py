"""What may stand in a request, and what is said about the rest."""

import json
from typing import Any

import pytest

from tokentide.console.ingest.incoming import Incoming, events_in, unwrapped
from tokentide.console.ingest.refusal import Refusal
from tokentide.schemas import InvalidEventError

JSON = {"content-type": "application/json"}
CLOUD_EVENT = {"content-type": "application/cloudevents+json; charset=UTF-8"}
CLOUD_EVENTS = {"content-type": "application/cloudevents-batch+json"}
ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "type": "ai.usage.recorded.v1",
    "source": "/checkout",
    "id": "A-1",
}


def read(headers: dict[str, str], body: Any) -> list[Any]:
    return events_in(headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def refusal(headers: dict[str, str], body: Any) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        read(headers, body)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("body", [{"a": 1}, [{"a": 1}], {"events": [{"a": 1}]}])
def test_one_event_an_array_and_an_object_with_events_are_the_same(body: Any) -> None:
    assert read(JSON, body) == [{"a": 1}]


def test_a_cloud_event_comes_structured_in_a_batch_or_with_headers() -> None:
    event = {**ENVELOPE, "data": {"model": "m"}}
    headers = {f"ce-{name}": value for name, value in ENVELOPE.items()}

    assert read(CLOUD_EVENT, event) == [event]
    assert read(CLOUD_EVENTS, [event, event]) == [event, event]
    assert read({**JSON, **headers}, {"model": "m"}) == [event]


def test_a_structured_cloud_event_may_repeat_its_attributes_as_headers() -> None:
    event = {**ENVELOPE, "data": {"model": "m"}}
    headers = {f"ce-{name}": value for name, value in ENVELOPE.items()}

    assert read({**CLOUD_EVENT, **headers}, event) == [event]
    assert read({**CLOUD_EVENTS, **headers}, [event, event]) == [event, event]


@pytest.mark.parametrize("media_type", [None, "application/json; charset=utf-8", "Application/JSON"])
def test_data_is_json_however_its_media_type_is_written(media_type: str | None) -> None:
    event = {**ENVELOPE, "datacontenttype": media_type, "data": {"model": "m"}}

    assert unwrapped(event).usage == {"model": "m"}


def test_half_a_surrogate_pair_becomes_the_replacement_character() -> None:
    """JavaScript writes it so when it cuts a text in an emoji: one such message must not cost a batch."""
    body = rb'[{"a": "cut \ud83d"}, {"a": "\ude00\uD83D\n\ud83d\ude00", "\uDBFF": "\\ud83d \u00fc"}]'

    assert read(JSON, body) == [
        {"a": "cut \N{REPLACEMENT CHARACTER}"},
        {"a": "\ufffd\ufffd\n\N{GRINNING FACE}", "\ufffd": "\\ud83d ü"},
    ]


def test_values_of_headers_are_percent_decoded() -> None:
    (event,) = read({**JSON, "ce-subject": "J%C3%BCrgen%20K"}, {})

    assert event["subject"] == "Jürgen K"


@pytest.mark.parametrize(
    ("headers", "body", "status", "beginning"),
    [
        ({}, {}, 415, "Send JSON in UTF-8, with one of these as Content-Type: application/json, "),
        ({"content-type": "text/plain"}, {}, 415, "Send JSON in UTF-8"),
        ({"content-type": "application/json; charset=latin1"}, {}, 415, "Send JSON in UTF-8"),
        (JSON, b"", 400, "The body is no JSON: "),
        (JSON, b'{"a": NaN}', 400, "The body is no JSON: "),
        (JSON, b'{"a": "\xff"}', 400, "The body is no JSON: "),
        (JSON, b"[" * 5000, 400, "The body is no JSON: "),
        (JSON, "text", 400, "Send a JSON object, an array of them"),
        (JSON, [], 400, "The request holds no event."),
        (JSON, {"events": {}}, 400, "An object with `events` must hold an array there"),
        (JSON, {"events": [{}], "team_id": "t"}, 400, "An object with `events` must hold an array there"),
        (JSON, [{}] * 1001, 413, "The request holds 1001 events: send at most 1000 at once."),
        (CLOUD_EVENT, [ENVELOPE], 400, "application/cloudevents-batch+json is for an array"),
        (CLOUD_EVENTS, ENVELOPE, 400, "application/cloudevents-batch+json is for an array"),
        (CLOUD_EVENTS, [ENVELOPE, {}], 400, "Each event of application/cloudevents-batch+json must be"),
        ({**JSON, "ce-id": "1"}, [{}], 400, "The headers ce-... are those of one CloudEvent"),
    ],
)
def test_what_is_no_request_is_refused(
    headers: dict[str, str], body: Any, status: int, beginning: str
) -> None:
    refused, sentence = refusal(headers, body)

    assert refused == status
    assert sentence.startswith(beginning)


def test_an_envelope_says_what_the_event_leaves_out() -> None:
    event = {**ENVELOPE, "time": "2026-11-28T01:00:00Z", "subject": "u1", "data": {"model": "m"}}

    assert unwrapped(event) == Incoming(
        {"model": "m"}, {"timestamp": "2026-11-28T01:00:00Z", "user_id": "u1"}, ("/checkout", "A-1")
    )


@pytest.mark.parametrize(
    ("event", "beginning"),
    [
        (3, "the event is no JSON object"),
        ({**ENVELOPE, "specversion": "0.3"}, "specversion: must be 1.0"),
        ({**ENVELOPE, "type": "order.placed"}, "type: must be ai.usage.recorded.v1"),
        ({**ENVELOPE, "id": ""}, "source and id: a CloudEvent must have both"),
        ({**ENVELOPE, "source": 3}, "source and id: a CloudEvent must have both"),
        (ENVELOPE, "data: must be the usage event"),
        ({**ENVELOPE, "data": "text"}, "data: must be the usage event"),
        ({**ENVELOPE, "data": {}, "datacontenttype": "text/xml"}, "data: must be the usage event"),
    ],
)
def test_what_is_no_usage_event_is_refused(event: Any, beginning: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        unwrapped(event)

    assert str(caught.value).startswith(beginning)
