"""Whatever JSON comes: a record that the meter takes, or a sentence; never an exception."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.console.ingest.incoming import events_in
from tokentide.console.ingest.keys import ANYBODY, Client
from tokentide.console.ingest.reader import Reader
from tokentide.console.ingest.refusal import Refusal
from tokentide.console.ingest.spellings import canonical_fields
from tokentide.schemas import InvalidEventError, UsageEvent
from tokentide.streams.decode import decode

NOW = datetime(2026, 11, 28, 1, 30, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10**13)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.sampled_from(
        ["openai", "gpt-4o", "2026-11-27 10:00:00", "success", "chat", "1.0", "ai.usage.recorded.v1"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        *UsageEvent.model_fields,
        *(
            "userId",
            "modelProvider",
            "tokens_used",
            "created_at",
            "success",
            "openai_created",
            "ingredientCount",
        ),
        *("specversion", "type", "id", "time", "subject", "data"),
    ]
)
CALLS = st.fixed_dictionaries({"model": st.sampled_from(["gpt-4o", "llama"]), "provider": st.just("openai")})
EVENTS = st.builds(lambda call, more: {**call, **more}, CALLS, st.dictionaries(NAMES, VALUES, max_size=5))


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS | VALUES, max_size=3), st.sampled_from([ANYBODY, Client("c", "app", "growth")]))
def test_events_become_records_that_the_meter_takes_or_problems(sent: list[Any], client: Client) -> None:
    reader = Reader(client, NOW, source="door", max_future_seconds=3600, idempotency_key="k")

    for index, reading in enumerate(reader.read(json.loads(json.dumps(sent)))):
        assert (reading.event_id is None) == (reading.problem is not None)
        if reading.problem is not None:
            assert reading.problem.index == index
            assert reading.problem.problem
        if reading.record is not None:
            assert not decode([reading.record.value]).refused


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_bytes_are_events_or_a_refusal(body: bytes) -> None:
    refused: int | None = None
    events: list[Any] = []
    try:
        events = events_in({"content-type": "application/json"}, body)
    except Refusal as refusal:
        refused = refusal.status

    assert bool(events) != (refused in (400, 413))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(NAMES | TEXTS, VALUES, max_size=4))
def test_spellings_are_read_or_refused(sent: dict[str, Any]) -> None:
    fields: dict[str, Any] = {}
    with suppress(InvalidEventError):
        fields, _ = canonical_fields(sent)

    assert fields.keys() <= UsageEvent.model_fields.keys()
