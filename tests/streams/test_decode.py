"""The fast decoder and the model accept and refuse the same records, and read the same values from them."""

import json
import string
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from tokentide.schemas import ApiOperation, InvalidEventError, Status, UsageEvent
from tokentide.schemas.usage_struct import FIELDS
from tokentide.streams import decode as decoding
from tokentide.streams.decode import decode
from tokentide.streams.event_reader import EventReader

# So many in one chunk are not read one by one.
MANY = 60
EVENT = {
    "event_id": "e-1",
    "timestamp": "2026-11-01T10:00:00Z",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 5,
    "output_tokens": 3,
}


def record(**changes: Any) -> bytes:
    return json.dumps({**EVENT, **changes}).encode()


def raw(text: str | bytes) -> bytes:
    """An event that ends with these bytes instead of its closing brace."""
    return record()[:-1] + b", " + (text if isinstance(text, bytes) else text.encode()) + b"}"


def by_model(value: bytes | None) -> dict[str, Any] | str:
    try:
        event = UsageEvent.from_wire(value)
    except InvalidEventError as error:
        return str(error)
    values = {name: getattr(event, name) for name in FIELDS}
    values["metadata"] = json.loads(to_json(event.metadata, inf_nan_mode="null"))
    values["api_operation"], values["status"] = event.api_operation.value, event.status.value
    return values


def by_decoder(value: bytes | None) -> dict[str, Any] | str:
    (only,) = decoded([value])
    return only


def decoded(values: Sequence[bytes | None]) -> list[dict[str, Any] | str]:
    """What became of each record: its row, or the reason why it holds no event."""
    events, places, refused = decode(values)
    assert sorted([*places, *refused]) == list(range(len(values)))
    assert places == sorted(places)
    found: dict[int, dict[str, Any] | str] = {**refused}
    if places:
        names = list(FIELDS)
        rows = pa.RecordBatch.from_arrays([events.array(name) for name in names], names).to_pylist()
        for place, row in zip(places, rows, strict=True):
            found[place] = {**row, "tags": dict(row["tags"]), "metadata": json.loads(row["metadata"])}
        assert [events.moment(row) for row in range(len(events))] == [row["timestamp"] for row in rows]
    return [found[place] for place in range(len(values))]


def assert_agree(value: bytes | None) -> None:
    model, decoder = by_model(value), by_decoder(value)
    assert decoder == model
    if not isinstance(model, str) and not isinstance(decoder, str):
        assert {name: type(read) for name, read in decoder.items()} == {
            name: type(read) for name, read in model.items()
        }


REFUSED = {
    "no value": None,
    "nothing": b"",
    "no JSON": b"not json",
    "half": record()[:-9],
    "two": record() + record(),
    "a NUL behind it": record() + b"\x00",
    "a byte order mark": b"\xef\xbb\xbf" + record(),
    "UTF-16": record().decode().encode("utf-16"),
    "an array": b"[" + record() + b"]",
    "a string": b'"event"',
    "null": b"null",
    "a number": b"1",
    "no id": json.dumps({name: value for name, value in EVENT.items() if name != "event_id"}).encode(),
    "a null id": record(event_id=None),
    "an empty id": record(event_id=""),
    "a long id": record(event_id="x" * 129),
    "a numeric id": record(event_id=7),
    "a control character": record(event_id="a\nb"),
    "a tab in the model": record(model="gpt\t4"),
    "a raw control character": raw('"user_id": "a\x01b"'),
    "no time": json.dumps({name: value for name, value in EVENT.items() if name != "timestamp"}).encode(),
    "a time without zone": record(timestamp="2026-11-01T10:00:00"),
    "a date": record(timestamp="2026-11-01"),
    "a number for a time": record(timestamp=1767225600),
    "year 1999": record(timestamp="1999-01-01T00:00:00Z"),
    "year 2100": record(timestamp="2100-01-01T00:00:00Z"),
    "30 February": record(timestamp="2026-02-30T00:00:00Z"),
    "no leap year": record(timestamp="2027-02-29T00:00:00Z"),
    "hour 24": record(timestamp="2026-01-01T24:00:00Z"),
    "second 60": record(timestamp="2026-06-30T23:59:60Z"),
    "an ISO week": record(timestamp="2026-W01-1T10:00:00Z"),
    "no separators": record(timestamp="2026-01-01T100000.12345Z"),
    "a point and nothing": record(timestamp="2026-01-01T10:00:00.Z"),
    "wide digits": record(timestamp="２026-01-01T10:00:00Z"),
    "version 2": record(schema_version=2),
    "version as text": record(schema_version="1"),
    "negative": record(input_tokens=-1),
    "too many": record(input_tokens=10**9 + 1),
    "beyond 64 bits": record(input_tokens=2**64),
    "a number of 5000 digits": raw('"x": ' + "1" * 5000),
    "a float for a count": record(input_tokens=5.0),
    "an exponent for a count": raw('"images": 1e0'),
    "a boolean for a count": record(images=True),
    "text for a count": record(input_tokens="5"),
    "null for a count": record(images=None),
    "a number for a boolean": record(stream=1),
    "text for a boolean": record(stream="true"),
    "a wrong total": record(total_tokens=7),
    "a total of minus one": record(total_tokens=-1),
    "a total of null": record(total_tokens=None),
    "a float total": record(total_tokens=8.0),
    "cache above input": record(cache_read_tokens=3, cache_write_tokens=3),
    "an hour above the cache": record(cache_write_tokens=1, cache_write_1h_tokens=2),
    "audio and images above input": record(input_audio_tokens=3, input_image_tokens=3),
    "cached audio above the cache": record(input_audio_tokens=2, cache_audio_read_tokens=1),
    "reasoning above output": record(reasoning_tokens=4),
    "no requests": record(requests=0),
    "an unknown operation": record(api_operation="dance"),
    "an unknown status": record(status="SUCCESS"),
    "an unknown processing": record(processing="later"),
    "an unknown source": record(source="fax"),
    "NaN milliseconds": raw('"latency_ms": NaN'),
    "infinite milliseconds": raw('"latency_ms": 1e400'),
    "negative milliseconds": record(latency_ms=-0.5),
    "a negative amount": record(provider_cost_usd="-0.01"),
    "NaN dollars": record(provider_cost_usd="NaN"),
    "an amount of 13 places": record(provider_cost_usd="0.0000000000001"),
    "a monstrous amount": record(provider_cost_usd="1e999999999"),
    "text for an amount": record(audio_seconds="a minute"),
    "no amount": record(audio_seconds=None),
    "tags of numbers": record(tags={"a": 1}),
    "a tag without a name": record(tags={"": "x"}),
    "a long tag": record(tags={"a": "x" * 257}),
    "33 tags": record(tags={f"t{number}": "" for number in range(33)}),
    "a list of tags": record(tags=["a"]),
    "metadata null": record(metadata=None),
    "metadata list": record(metadata=[]),
    "large metadata": record(metadata={"a": "x" * 8200}),
    "a megabyte of metadata": record(metadata={"a": "x" * 1_000_000}),
    "nested too deep": raw('"metadata": {"a":' + "[" * 300 + "]" * 300 + "}"),
    "unknown and too deep": raw('"x": ' + "[" * 100_000 + "]" * 100_000),
    "invalid UTF-8": raw(b'"user_id": "\xff"'),
    "invalid UTF-8 in metadata": raw(b'"metadata": {"a": "\xff"}'),
    "invalid UTF-8 in an unknown field": raw(b'"x": "\xc3("'),
    "a surrogate in UTF-8": raw(b'"user_id": "\xed\xa0\x80"'),
    "a lone surrogate": record(user_id="\ud800"),
    "a lone surrogate in metadata": record(metadata={"a": "\udfff"}),
}


@pytest.fixture
def new_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first record is the first that this process meets."""
    monkeypatch.setattr(decoding, "_reader", EventReader())


@pytest.mark.usefixtures("new_reader")
@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_poison_is_refused_with_the_models_own_reason(value: bytes | None) -> None:
    assert isinstance(by_model(value), str)
    assert_agree(value)
    assert decoded([value, *[record()] * MANY])[0] == by_model(value)


ACCEPTED = {
    "the least": record(),
    "spaces around": b" \r\n\t" + record() + b"\n",
    "the right total": record(total_tokens=8),
    "an unknown field": record(new_field={"a": [1, None]}),
    "a megabyte of an unknown field": record(new_field="x" * 1_000_000),
    "a duplicate key": raw('"model": "b"'),
    "a duplicate key, the first one wrong": b'{"model": 1, ' + record()[1:],
    "an escaped key": raw(r'"\u0075ser_id": "ann"'),
    "escapes": record(user_id='ann "quoted" \\ / ü \U0001f600'),
    "raw UTF-8": raw('"user_id": "ünïcødé 漢字 😀"'),
    "a DEL and a C1 character": raw('"user_id": "a\x7f\x85b"'),
    "control characters in a message": record(error_message="line\nline\x00"),
    "an int for a float": record(latency_ms=5),
    "a huge float": record(latency_ms=1e12),
    "the smallest float": record(latency_ms=5e-324),
    "minus zero": raw('"images": -0, "latency_ms": -0.0'),
    "version 1.0": record(schema_version=1.0),
    "decimals as text": record(audio_seconds="12.5", provider_cost_usd="0.000000000001"),
    "decimals as numbers": record(audio_seconds=12.5, provider_cost_usd=1),
    "zero as text": record(audio_seconds="0", provider_cost_usd="0"),
    "zeros": record(audio_seconds="0." + "0" * 30, provider_cost_usd="-0"),
    "a decimal with an exponent": record(audio_seconds="1E+3", provider_cost_usd="1e-12"),
    "an amount of null": record(provider_cost_usd=None),
    "all nulls": record(user_id=None, latency_ms=None, provider_created=None, error_message=None),
    "tags": record(tags={"a": "", "b": "x" * 256}),
    "tags with escapes": record(tags={"a\n": "\t"}),
    "metadata": record(metadata={"a": [1, 2.5, None, True, {"b": "c"}], "": -0.0}),
    "metadata in UTF-8": raw('"metadata": {"ключ": "值"}'),
    "metadata with a duplicate key": raw('"metadata": {"a": 1, "a": 2}'),
    "metadata with spaces": raw('"metadata" : { "a" : [ ] } '),
    "NaN in metadata": raw('"metadata": {"a": NaN, "b": [-Infinity]}'),
    "an overflow in metadata": raw('"metadata": {"a": 1e999}'),
    "long numbers in metadata": raw(
        '"metadata": {"a": 123456789012345678901234567890, "b": 0.1234567890123456789}'
    ),
    "exponents in metadata": raw('"metadata": {"a": 1E5, "b": 1e-7}'),
    "metadata, 60 deep": raw('"metadata": {"a":' + "[" * 60 + "]" * 60 + "}"),
    "metadata, 190 deep": raw('"metadata": {"a":' + "[" * 190 + "]" * 190 + "}"),
    "metadata of 8 KB": record(metadata={"a": "x" * 8180}),
    "another spelling of the provider": record(provider="gcp.Vertex_AI"),
    "a provider in capitals": record(provider=" OpenAI "),
    "a provider that nobody knows": record(provider="Acme Models"),
}


@pytest.mark.usefixtures("new_reader")
@pytest.mark.parametrize("value", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_model_accepts_is_read_with_the_same_values(value: bytes) -> None:
    assert not isinstance(by_model(value), str)
    assert_agree(value)
    assert decoded([value] * MANY) == [by_model(value)] * MANY


MOMENTS = (
    "2010-01-01T00:00:00Z",
    "2099-12-31T23:59:59.999999Z",
    "2028-02-29T10:00:00Z",
    "2026-01-01T10:00:00+00:00",
    "2026-01-01T10:00:00-00:00",
    "2026-01-01T10:00:00.1234567Z",
    "2026-01-01T10:00:00.9999999Z",
    "2026-01-01T10:00:00.123456789Z",
    "2026-01-01T10:00:00.1234567890123Z",
    "2026-01-01T10:00:00,5Z",
    "2026-01-01 10:00:00Z",
    "2026-01-01t10:00:00z",
    "2026-01-01_10:00:00Z",
    "2026-01-01T10:00Z",
    "2026-01-01T10:00:00+02:00",
    "2026-01-01T10:00:00.000001-13:59",
    "2026-01-01T10:00:00+14:59",
    "2026-01-01T10:00:00+15:00",
    "2026-01-01T10:00:00+23:59",
    "2026-01-01T10:00:00+24:00",
    "2026-01-01T10:00:00+02:60",
    "2026-01-01T10:00:00+0200",
    "2026-01-01T10:00:00+02",
    "2026-01-01T10:00:00+02:00:30",
    "2010-01-01T01:00:00+02:00",
    "2099-12-31T23:59:59-02:00",
    "2026-1-1T10:00:00Z",
    "2026-01-01T10:00:00 Z",
    " 2026-01-01T10:00:00Z",
    "2026-01-01T10:00:00Z ",
    "2026-01-01T10:00:00ZZ",
    "2026-001T10:00:00.00Z",
    "+002026-01-01T10:00:00Z",
    "1767225600",
    "1767225600000",
    "",
    "Z",
)


@pytest.mark.parametrize("text", MOMENTS)
def test_every_form_of_a_date_is_read_like_the_model_reads_it(text: str) -> None:
    assert_agree(record(timestamp=text))
    assert_agree(record(provider_created=text))


@given(st.text("0123456789TZtz:+-., W", max_size=36))
@settings(max_examples=250, deadline=None)
def test_nothing_that_looks_like_a_date_divides_them(text: str) -> None:
    assert_agree(record(timestamp="2026-01-0" + text))


labels = st.none() | st.text(max_size=20)
counts = st.integers(0, 10**9)
amounts = st.decimals(0, 10**9, places=6).map(str) | st.integers(0, 1000) | st.just("0")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
moments = st.datetimes(
    datetime(2010, 1, 2),
    datetime(2099, 12, 30),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-9))]),
).map(datetime.isoformat)
fields = st.fixed_dictionaries(
    {
        "event_id": st.text(string.printable[:94], min_size=1, max_size=40),
        "timestamp": moments,
        "provider": st.sampled_from(["openai", "xai", "Claude", "acme"]),
        "model": st.text(min_size=1, max_size=20),
    },
    optional={
        "schema_version": st.just(1),
        "user_id": labels,
        "team_id": labels,
        "api_operation": st.sampled_from([member.value for member in ApiOperation]),
        "provider_created": st.none() | moments,
        "processing": st.sampled_from(["standard", "batch"]),
        "input_tokens": counts,
        "output_tokens": counts,
        "cache_read_tokens": st.integers(0, 9),
        "cache_write_tokens": st.integers(0, 9),
        "reasoning_tokens": st.integers(0, 9),
        "audio_seconds": amounts,
        "requests": st.integers(1, 9),
        "estimated": st.booleans(),
        "latency_ms": st.none() | st.floats(0, 1e6) | st.integers(0, 1000),
        "status": st.sampled_from([member.value for member in Status]),
        "error_message": st.none() | st.text(max_size=30),
        "provider_cost_usd": st.none() | amounts,
        "tags": st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=3),
        "metadata": st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    },
)
# Values of a wrong kind or out of range, for any field.
junk = json_values | st.sampled_from([-1, 2**63, 2**64, 1.0, True, "5", "", "x" * 300, [], {}])


@given(fields, st.booleans())
@settings(max_examples=250, deadline=None)
def test_random_events_are_read_alike(values: dict[str, Any], is_ascii: bool) -> None:
    assert_agree(json.dumps(values, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass"))


@given(fields, st.dictionaries(st.sampled_from(FIELDS), junk, min_size=1, max_size=2))
@settings(max_examples=250, deadline=None)
def test_random_events_with_wrong_values_are_judged_alike(
    values: dict[str, Any], wrong: dict[str, Any]
) -> None:
    assert_agree(json.dumps({**values, **wrong}, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(fields, st.data())
@settings(max_examples=250, deadline=None)
def test_random_bytes_inside_an_event_are_judged_alike(values: dict[str, Any], data: st.DataObject) -> None:
    value = json.dumps(values).encode()
    start = data.draw(st.integers(0, len(value)))
    end = start + data.draw(st.integers(0, 3))
    patch = data.draw(
        st.binary(max_size=3) | st.sampled_from([b'"', b"\\u0000", b"e9", b"NaN", b"[", b",", b"-"])
    )

    assert_agree(value[:start] + patch + value[end:])


@given(st.lists(st.sampled_from([*REFUSED.values(), *ACCEPTED.values(), record()]), max_size=12))
@settings(max_examples=50, deadline=None)
def test_what_becomes_of_a_record_does_not_depend_on_its_neighbours(values: list[bytes | None]) -> None:
    alone = [by_decoder(value) for value in values]
    assert decoded(values) == alone
    assert decoded(values + [record()] * MANY) == alone + [by_decoder(record())] * MANY


@given(st.lists(fields, min_size=2, max_size=6))
@settings(max_examples=100, deadline=None)
def test_random_events_are_read_alike_in_one_chunk(many: list[dict[str, Any]]) -> None:
    values = [json.dumps(values, ensure_ascii=False).encode() for values in many]

    assert decoded(values * MANY) == [by_model(value) for value in values] * MANY


@given(st.lists(st.sampled_from(MOMENTS) | moments, min_size=2, max_size=8))
@settings(max_examples=100, deadline=None)
def test_every_form_of_a_date_is_read_beside_others(texts: list[str]) -> None:
    for name in ("timestamp", "provider_created"):
        values = [record(**{name: text}) for text in texts]
        expected = [by_model(value) for value in values]
        assert decoded(values) == expected
        assert decoded(values * MANY) == expected * MANY


def test_a_plain_event_never_needs_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    full = {
        **EVENT,
        "schema_version": 1,
        "total_tokens": 8,
        "cache_read_tokens": 2,
        "user_id": "größe",
        "tags": {"a": "b"},
        "metadata": {"slide": 3, "title": "x"},
        "latency_ms": 12.5,
        "timestamp": "2026-11-01T12:00:00.123456+02:00",
    }
    monkeypatch.setattr(UsageEvent, "from_wire", None)

    (row,) = decoded([json.dumps(full, ensure_ascii=False).encode()])

    assert isinstance(row, dict)
    assert row["timestamp"] == datetime(2026, 11, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert (row["total_tokens"], row["user_id"], row["audio_seconds"]) == (8, "größe", Decimal(0))
