"""From what was sent to records: ids that come again, keys that are bound, problems by their place."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tokentide.console.ingest.keys import ANYBODY, Client
from tokentide.console.ingest.reader import Reader, Reading
from tokentide.producers.cloud_event import record_of
from tokentide.schemas import UsageEvent
from tokentide.schemas.usage import Label

NOW = datetime(2026, 11, 28, 1, 30, tzinfo=UTC)
CALL = {"provider": "openai", "model": "gpt-4o", "input_tokens": 5}
CLOUD_EVENT = {
    "specversion": "1.0",
    "type": "ai.usage.recorded.v1",
    "source": "/checkout",
    "id": "A-1",
    "subject": "u1",
    "time": "2026-11-28T01:00:00Z",
}


def read(
    *events: Any, client: Client = ANYBODY, key: str | None = None, max_future_seconds: int = 3600
) -> list[Reading]:
    reader = Reader(client, NOW, source="door", max_future_seconds=max_future_seconds, idempotency_key=key)
    return list(reader.read(events))


def event(sent: Any, client: Client = ANYBODY, key: str | None = None) -> dict[str, Any]:
    (reading,) = read(sent, client=client, key=key)
    assert reading.record is not None, reading.problem
    return dict(json.loads(reading.record.value))


def problem(sent: Any, client: Client = ANYBODY) -> str:
    (reading,) = read(sent, client=client)
    assert reading.problem is not None
    return reading.problem.problem


def test_a_record_is_the_one_that_the_sdk_would_send() -> None:
    sent = {
        **CALL,
        "event_id": "e1",
        "timestamp": "2026-11-28T01:00:00Z",
        "user_id": "u1",
        "tags": {"a": "b"},
    }

    (reading,) = read(sent)

    assert reading.record == record_of(
        UsageEvent.model_validate_json(json.dumps({**sent, "source": "http"})), "door"
    )


def test_an_event_without_a_time_is_of_now_and_comes_from_http() -> None:
    read_ = event({**CALL, "event_id": "e1"})

    assert read_ == {
        **CALL,
        "event_id": "e1",
        "schema_version": 1,
        "timestamp": "2026-11-28T01:30:00Z",
        "total_tokens": 5,
        "source": "http",
    }


def test_an_id_is_kept_and_another_one_is_made_each_time() -> None:
    first, second = event(CALL), event(CALL)

    assert event({**CALL, "eventId": "mine"})["event_id"] == "mine"
    assert first["event_id"] != second["event_id"]


def test_the_providers_id_names_the_call_as_the_sdk_names_it() -> None:
    sent = {"model_used": "gpt-4o", "modelProvider": "azure_openai", "openai_request_id": "chatcmpl-A1"}

    assert event(sent, key="k")["event_id"] == "azure/chatcmpl-A1"


def test_the_numbers_that_ollama_draws_name_no_call() -> None:
    sent = {"provider": "ollama", "model": "llama3.2", "request_id": "chatcmpl-418"}

    first, second = event(sent), event(sent)

    assert first["event_id"] != second["event_id"]
    assert first["request_id"] == "chatcmpl-418"
    assert event(sent, key="k")["event_id"] == event(sent, key="k")["event_id"]


def test_an_idempotency_key_makes_the_same_ids_for_the_same_client() -> None:
    again = [[each.event_id for each in read(CALL, CALL, key="k")] for _ in range(2)]
    other_key = [each.event_id for each in read(CALL, CALL, key="l")]
    other_client = [each.event_id for each in read(CALL, CALL, key="k", client=Client("other"))]

    assert again[0] == again[1]
    assert len({*again[0], *other_key, *other_client}) == 6


def test_a_cloud_event_is_named_by_its_source_and_id() -> None:
    read_ = event({**CLOUD_EVENT, "data": CALL})

    assert (read_["event_id"], read_["user_id"], read_["timestamp"]) == (
        "/checkout/A-1",
        "u1",
        "2026-11-28T01:00:00Z",
    )


def test_cloud_events_with_other_sources_and_ids_are_other_events() -> None:
    names = [("a/b", "c"), ("a", "b/c"), ("a", "b%2Fc"), ("a", "b%252Fc")]

    ids = [
        event({**CLOUD_EVENT, "source": source, "id": name, "data": CALL})["event_id"]
        for source, name in names
    ]

    assert ids == ["a/b/c", "a/b%2Fc", "a/b%252Fc", "a/b%25252Fc"]


def test_what_the_event_says_wins_over_its_envelope() -> None:
    said = {"eventId": "mine", "userId": "u2", "created_at": "2026-11-27T00:00:00"}

    read_ = event({**CLOUD_EVENT, "data": {**CALL, **said}})

    assert (read_["event_id"], read_["user_id"], read_["timestamp"]) == ("mine", "u2", "2026-11-27T00:00:00Z")


def test_a_bound_key_fills_in_its_service_and_team_and_refuses_others() -> None:
    client = Client("mobile", service="app", team_id="growth")

    bound = event(CALL, client)

    assert (bound["service"], bound["team_id"]) == ("app", "growth")
    assert event({**CALL, "teamId": "growth"}, client)["team_id"] == "growth"
    assert problem({**CALL, "teamId": "sales"}, client) == (
        "team_id: this key may only send for 'growth'; leave team_id out, or use another key"
    )


def test_an_event_that_is_repeated_in_a_request_is_sent_once() -> None:
    first, second = read({**CALL, "event_id": "e"}, {**CALL, "event_id": "e"})

    assert (first.event_id, second.event_id) == ("e", "e")
    assert first.record is not None
    assert second.record is None


def test_two_calls_of_one_id_are_refused() -> None:
    first, second = read({**CALL, "event_id": "e"}, {**CALL, "event_id": "e", "input_tokens": 6})

    assert first.record is not None
    assert second.problem is not None
    assert (second.problem.index, second.problem.problem) == (
        1,
        "event_id: event 0 has the same, and is another call; give each call its own",
    )


def test_a_time_too_far_ahead_is_refused_as_the_meter_would() -> None:
    ahead = NOW + timedelta(seconds=3601)

    assert event({**CALL, "timestamp": (NOW + timedelta(seconds=3600)).isoformat()})
    assert problem({**CALL, "created_at": ahead.isoformat()}) == (
        "created_at: 2026-11-28T02:30:01+00:00 is 3601 seconds ahead; at most 3600 are allowed, correct your clock"
    )


def test_a_bound_that_no_time_reaches_refuses_none() -> None:
    (reading,) = read({**CALL, "timestamp": "2099-12-31T00:00:00Z"}, max_future_seconds=10**15)

    assert reading.record is not None


def test_a_problem_of_a_cloud_event_names_its_attribute() -> None:
    assert problem({**CLOUD_EVENT, "time": "soon", "data": CALL}).startswith("time: ")
    assert problem({**CLOUD_EVENT, "subject": "x" * 257, "data": CALL}).startswith("subject: ")
    assert problem({**CLOUD_EVENT, "data": {**CALL, "createdAt": "soon"}}).startswith("createdAt: ")


def test_each_problem_is_a_sentence_that_names_the_field_as_it_was_sent() -> None:
    assert problem({**CALL, "tokens_used": 7}) == (
        "tokens_used = 7, but input_tokens + output_tokens = 5; leave tokens_used out or correct the counts"
    )
    assert problem({"model": "llama", "inputTokens": 1}) == (
        "provider: missing; say who sells the model, for example openai"
    )
    assert problem({"provider": "openai", "model": "m", "inputTokens": -1}) == (
        "inputTokens: Input should be greater than or equal to 0"
    )
    assert problem({"provider": "openai"}) == "model: Field required"
    assert "cachedTokens + cache_write_tokens = 9 cannot exceed input_tokens = 5" in problem(
        {**CALL, "cachedTokens": 9}
    )


def test_an_event_far_beyond_every_bound_is_refused_unread() -> None:
    most = {
        **{
            name: "\N{GRINNING FACE}" * 256
            for name, field in UsageEvent.model_fields.items()
            if field.annotation == Label | None
        },
        "tags": {f"{n:02}" + "\x00" * 62: "\x00" * 256 for n in range(32)},
        "metadata": {"note": "x" * 8100},
        "error_message": "\x00" * 2048,
    }

    assert event({**CALL, **most})["tags"] == most["tags"]
    assert re.fullmatch(
        "the event has 300[0-9]{3} bytes of JSON, at most 262144 are read: metadata must fit in 8192 bytes",
        problem({**CALL, "metadata": {"note": [[]] * 100_000}}),
    )


def test_problems_keep_their_place_and_the_others_go_on() -> None:
    readings = read(CALL, {"model": 3}, CALL)

    assert [each.problem.index for each in readings if each.problem] == [1]
    assert [each.record is not None for each in readings] == [True, False, True]
