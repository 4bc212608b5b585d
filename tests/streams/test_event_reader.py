"""Which fields a reader gives its rows, and that no value depends on what it has met before."""

import json
from typing import Any

import pyarrow as pa
import pytest

from tokentide.schemas.usage_struct import FIELDS
from tokentide.streams import decode as decoding
from tokentide.streams.event_reader import NOTHING, EventReader

EVENT = {"event_id": "e-1", "timestamp": "2026-11-01T10:00:00Z", "provider": "openai", "model": "gpt-4o"}
LEAST = ("event_id", "timestamp", "provider", "model")


def record(**changes: Any) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def test_a_row_has_the_fields_that_some_record_had() -> None:
    reader = EventReader()

    reader.read([record(user_id="ann"), record(images=2)])

    assert reader.names == ("event_id", "timestamp", "user_id", "provider", "model", "images")
    assert reader.read([record()]) == [("e-1", "2026-11-01T10:00:00Z", None, "openai", "gpt-4o", 0)]


def test_a_field_that_says_what_its_absence_says_is_learned_as_well() -> None:
    reader = EventReader()

    reader.read([record(speed=None, images=0)])

    assert set(reader.names) == {*LEAST, "speed", "images"}


def test_fields_without_a_value_of_their_own_are_left_as_json() -> None:
    reader = EventReader()

    rows = reader.read([record(), record(tags={"a": "b"}, metadata={"c": [1]})])

    place = reader.names.index("tags"), reader.names.index("metadata")
    bare, told = rows
    assert bare is not None
    assert told is not None
    assert [bare[each] for each in place] == [NOTHING, NOTHING]
    assert [bytes(told[each]) for each in place] == [b'{"a": "b"}', b'{"c": [1]}']


@pytest.mark.parametrize("name", LEAST)
def test_what_every_event_must_have_is_asked_for_from_the_first_record_on(name: str) -> None:
    less = {key: value for key, value in EVENT.items() if key != name}

    assert EventReader().read([json.dumps(less).encode()]) == [None]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        record(images=-1),
        record(unknown=1),
        record(user_id="a\\b"),
        record(audio_seconds="1"),
    ],
)
def test_what_only_the_model_can_judge_teaches_nothing(value: bytes | None) -> None:
    reader = EventReader()

    assert reader.read([value, record(user_id="ann")])[0] is None

    assert set(reader.names) == {*LEAST, "user_id"}


def test_no_value_depends_on_the_fields_that_were_met_before(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [
        record(input_tokens=7, cache_read_tokens=3, tags={"a": "b"}, status="error"),
        record(user_id="an\\n", provider_created="2026-11-01T10:00:00+02:00", estimated=True),
        record(audio_seconds="12.5", metadata={"long": 10**20}, latency_ms=-0.0),
        record(cache_read_tokens=3),
        b"no event",
    ]

    def decoded(*met: str) -> list[Any]:
        reader = EventReader()
        reader.learn(met)
        monkeypatch.setattr(decoding, "_reader", reader)
        events, places, refused = decoding.decode(values)
        rows = pa.RecordBatch.from_arrays([events.array(name) for name in FIELDS], list(FIELDS)).to_pylist()
        return [places, refused, rows, [list(events.values(name)) for name in FIELDS]]

    fresh, full = decoded(), decoded(*FIELDS)

    assert fresh[:3] == full[:3]
    assert fresh[0] == [0, 1, 2]
    without_total = [number for number, name in enumerate(FIELDS) if name != "total_tokens"]
    assert [fresh[3][number] for number in without_total] == [full[3][number] for number in without_total]
