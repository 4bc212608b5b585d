"""The door as other languages see it: requests over HTTP, records in Kafka."""

import gzip
import http.client
import json
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from support.door import Door
from support.oracle import read_topic

from tokentide.producers.cloud_event import record_of
from tokentide.schemas import UsageEvent

CLOUD_EVENT = {"ce_specversion": "1.0", "ce_type": "ai.usage.recorded.v1", "ce_source": "/checkout"}
KEY = {"Authorization": "Bearer the-secret-of-backend"}


def call(**fields: Any) -> dict[str, Any]:
    return {
        "event_id": uuid.uuid4().hex,
        "timestamp": "2026-11-27T10:00:00Z",
        "userId": "u1",
        "provider": "openai",
        "model": "gpt-4o",
        "inputTokens": 5,
        "outputTokens": 7,
        **fields,
    }


def test_one_event_is_stored_before_the_answer_as_the_sdk_would_store_it(door: Door) -> None:
    sent = call(tags={"städte": "Köln"})

    answer = door.post(sent)

    event_id = sent["event_id"]
    assert (answer.status, answer.json) == (202, {"accepted": 1, "event_ids": [event_id], "problems": []})
    (message,) = [
        each for each in read_topic(door.broker, door.topic) if event_id.encode() in (each.value() or b"")
    ]
    event = UsageEvent.from_wire(message.value())
    assert (event.source, event.input_tokens, event.user_id) == ("http", 5, "u1")
    record = record_of(event, "tokentide/ingest")
    assert (message.key(), message.value(), message.headers()) == (
        record.key,
        record.value,
        [(name, value) for name, value in record.headers],
    )


def test_a_thousand_events_are_one_request(door: Door) -> None:
    sent = [call(userId=f"u{number}") for number in range(1000)]

    answer = door.post({"events": sent})

    assert answer.status == 202
    assert answer.json["event_ids"] == [event["event_id"] for event in sent]
    assert {event["event_id"] for event in sent} <= door.stored().keys()
    assert door.post([*sent, call()]).status == 413


def test_the_same_request_again_gives_the_same_events(door: Door) -> None:
    sent = [call(event_id=None), call(event_id=None)]
    key = uuid.uuid4().hex

    answers = [door.post(sent, Idempotency_Key=key) for _ in range(3)]

    (ids,) = {tuple(answer.json["event_ids"]) for answer in answers}
    assert len(set(ids)) == 2
    assert door.post(sent).json["event_ids"] != list(ids)
    assert door.post(sent, Idempotency_Key="").status == 400


def test_a_batch_with_a_wrong_event_is_refused_whole(door: Door) -> None:
    sent = [call(), call(inputTokens=-1), call(tokens_used=9), call()]

    answer = door.post(sent)

    assert answer.status == 422
    assert answer.error == "2 of 4 events are wrong: nothing was taken; mend them, or add ?partial=true."
    assert [problem["index"] for problem in answer.json["problems"]] == [1, 2]
    assert not {event["event_id"] for event in sent} & door.stored().keys()


def test_the_right_events_of_a_batch_are_taken_on_demand(door: Door) -> None:
    sent = [call(), call(inputTokens=-1), call()]

    answer = door.post(sent, "/v1/usage?partial=true")

    assert answer.status == 202
    assert answer.json["accepted"] == 2
    assert answer.json["event_ids"] == [sent[0]["event_id"], None, sent[2]["event_id"]]
    assert [problem["index"] for problem in answer.json["problems"]] == [1]
    assert {sent[0]["event_id"], sent[2]["event_id"]} <= door.stored().keys()
    assert door.post([{}, {}], "/v1/usage?partial=true").status == 422


def test_cloud_events_come_in_all_three_modes(door: Door) -> None:
    source = f"/checkout/{uuid.uuid4().hex}"
    envelope = {**{name.removeprefix("ce_"): text for name, text in CLOUD_EVENT.items()}, "source": source}
    data = call(event_id=None, userId=None)
    one, two, three = (
        {**envelope, "id": f"A-{number}", "subject": "u9", "data": data} for number in range(3)
    )

    structured = door.post(one, Content_Type="application/cloudevents+json")
    batch = door.post([two, three], Content_Type="application/cloudevents-batch+json")
    binary = door.post(data, **{**CLOUD_EVENT, "ce_source": source, "ce_id": "B", "ce_subject": "u9"})

    ids = [*structured.json["event_ids"], *batch.json["event_ids"], *binary.json["event_ids"]]
    assert ids == [f"{source}/A-0", f"{source}/A-1", f"{source}/A-2", f"{source}/B"]
    stored = door.stored()
    assert [stored[event_id][0]["user_id"] for event_id in ids] == ["u9"] * 4


def test_a_key_is_needed_and_binds_its_events(narrow_door: Door) -> None:
    sent = call()
    mobile = {"X_API_Key": "the-secret-of-mobile"}

    refused = [
        narrow_door.post(sent),
        narrow_door.post(sent, X_API_Key="wrong"),
        narrow_door.request("GET", "/metrics"),
    ]
    answer = narrow_door.post(sent, **mobile)
    foreign = narrow_door.post(call(team_id="sales"), **mobile)

    assert [each.status for each in refused] == [401, 401, 401]
    assert refused[0].headers["www-authenticate"] == "Bearer"
    assert answer.status == 202
    (stored,) = narrow_door.stored()[sent["event_id"]]
    assert (stored["service"], stored["team_id"]) == ("app", "growth")
    assert foreign.status == 422
    assert "this key may only send for 'growth'" in foreign.error
    assert narrow_door.post(call(team_id="sales"), **KEY).status == 202


def test_a_body_may_be_gzip(door: Door) -> None:
    sent = [call() for _ in range(1000)]
    packed = gzip.compress(json.dumps(sent).encode())

    answer = door.post(packed, Content_Encoding="gzip")

    assert len(packed) * 3 < len(json.dumps(sent))
    assert answer.json["event_ids"] == [event["event_id"] for event in sent]
    assert {event["event_id"] for event in sent} <= door.stored().keys()


@pytest.mark.parametrize(
    ("coding", "change", "status", "beginning"),
    [
        ("br", bytes, 415, "Send the body as it is, or with Content-Encoding: gzip."),
        ("gzip, gzip", bytes, 415, "Send the body as it is, or with Content-Encoding: gzip."),
        ("gzip", lambda packed: b"{}", 400, "The body is no gzip: "),
        ("gzip", lambda packed: b"", 400, "The body is not one whole gzip: "),
        ("gzip", lambda packed: packed[:-1], 400, "The body is not one whole gzip: "),
        ("gzip", lambda packed: packed + packed, 400, "The body is not one whole gzip: "),
        ("gzip", lambda packed: packed[:-8] + bytes(8), 400, "The body is no gzip: "),
    ],
    ids=["another", "twice", "plain", "empty", "cut", "two members", "wrong checksum"],
)
def test_another_coding_and_half_a_gzip_are_refused(
    door: Door, coding: str, change: Callable[[bytes], bytes], status: int, beginning: str
) -> None:
    sent = call()

    answer = door.post(change(gzip.compress(json.dumps(sent).encode())), Content_Encoding=coding)

    assert (answer.status, answer.error[: len(beginning)]) == (status, beginning)
    assert sent["event_id"] not in door.stored()


def test_a_small_gzip_that_becomes_large_is_too_long(narrow_door: Door) -> None:
    largest = json.dumps([call(metadata={"note": "x" * 2000})]).encode()
    bomb = gzip.compress(bytes(50_000_000))

    refused = [
        narrow_door.post(gzip.compress(body), Content_Encoding="gzip", **KEY)
        for body in (largest + b" " * (3001 - len(largest)), bomb)
    ]

    assert [answer.status for answer in refused] == [413, 413]
    assert refused[0].error == "The body is longer than 3000 bytes: send fewer events at once."
    taken = gzip.compress(largest + b" " * (3000 - len(largest)))
    assert narrow_door.post(taken, Content_Encoding="gzip", **KEY).status == 202


def test_a_body_that_is_too_long_is_refused_also_when_it_does_not_say_so(narrow_door: Door) -> None:
    body = json.dumps(call(tags={f"tag{number}": "x" * 200 for number in range(20)})).encode()

    def in_chunks() -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(narrow_door.address, timeout=20)
        headers = {"Content-Type": "application/json", **KEY}
        connection.request(
            "POST", "/v1/usage", iter([body[:1000], body[1000:]]), headers, encode_chunked=True
        )
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    assert len(body) > 3000
    assert narrow_door.post(body, **KEY).status == 413
    assert in_chunks().status == 413


def test_what_does_not_fit_beside_the_rest_comes_again_later(narrow_door: Door) -> None:
    host, _, port = narrow_door.address.partition(":")
    sent = call(tags={f"tag{number}": "x" * 200 for number in range(5)})
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(
            b"POST /v1/usage HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\n"
            b"X-API-Key: the-secret-of-backend\r\nContent-Length: 2900\r\n\r\n{"
        )
        refused = narrow_door.post(sent, **KEY)
        while refused.status == 202:  # the slow one is not inside yet
            refused = narrow_door.post(sent, **KEY)
        assert narrow_door.request("GET", "/healthz").status == 200

    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    while (
        answer := narrow_door.post(sent, **KEY)
    ).status == 429:  # until it is noticed that the slow one has gone
        time.sleep(0.05)
    assert answer.status == 202


def test_it_lives_it_is_ready_and_it_counts(door: Door) -> None:
    door.post(call())
    door.post({})

    metrics = door.request("GET", "/metrics").text

    assert door.request("GET", "/healthz").json == {"status": "ok"}
    assert door.request("GET", "/readyz").json == {"status": "ready"}
    assert 'tokentide_ingest_requests_total{client="anybody",status="202"}' in metrics
    assert 'tokentide_ingest_requests_total{client="anybody",status="422"}' in metrics
    assert 'tokentide_ingest_events_total{client="anybody",outcome="stored"}' in metrics
    assert "tokentide_ingest_in_flight_bytes 0.0" in metrics


def test_every_refusal_is_one_sentence_in_json(door: Door) -> None:
    assert door.request("GET", "/v1/usage").error == "Method Not Allowed: events go to POST /v1/usage."
    assert door.post(call(), "/v1/usage/").error == "Not Found: events go to POST /v1/usage."
    assert door.request("GET", "/docs").error == "Not Found: events go to POST /v1/usage."
    assert door.post([call()], "/v1/usage?partial=perhaps").status == 400
    assert door.post(b"{").error.startswith("The body is no JSON: ")
    assert door.post(call(), Content_Type="text/plain").status == 415
    assert door.post({"model": "llama"}).error == (
        "The event is wrong: provider: missing; say who sells the model, for example openai."
    )


def test_openapi_describes_the_body_and_every_reference_leads_somewhere(door: Door) -> None:
    document = door.request("GET", "/openapi.json").json

    operation = document["paths"]["/v1/usage"]["post"]
    assert list(operation["requestBody"]["content"]) == [
        "application/json",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
    ]
    assert {"202", "400", "401", "413", "415", "422", "429", "503"} <= operation["responses"].keys()
    assert operation["security"] == [{"bearer": []}, {"key": []}]
    text = json.dumps(document)
    named = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= document["components"]["schemas"].keys()
    assert "input_tokens" in document["components"]["schemas"]["UsageEvent"]["properties"]
