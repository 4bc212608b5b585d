"""`tokentide rejected`: the book, the mended event, and retries that count once, on real Kafka and ClickHouse."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import Answer, run

from tokentide.console.rejected import RETRY_HEADER, RejectedBook, event_id_of, mended_event, parse_place
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import (
    InvalidEventError,
    KafkaSettings,
    PricedUsage,
    PriceStatus,
    Rejected,
    SettingsError,
    UsageEvent,
)
from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import PRICED_SCHEMA, write_chunk
from tokentide.sinks import connect, migrate
from tokentide.streams.log import Log
from tokentide.streams.prices import Catalogue
from tokentide.streams.pricing import price_chunk
from tokentide.streams.seen import SeenIds

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "timestamp": "2026-11-03T11:00:00Z",
    "provider": "openai",
    "model": "gpt-4o",
    "input_tokens": 7,
}
BAD: dict[str, Any] = {**GOOD, "event_id": "call-1", "input_tokens": -7}


def rejection(value: object, *, offset: int = 17, **fields: Any) -> Rejected:
    """A rejection of `usage.events`, partition 2."""
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    known = {"topic": "usage.events", "partition": 2, "timestamp": NOW, "reason": "no", "key": b"ann"}
    return Rejected.model_construct(**{**known, "offset": offset, "value": raw, **fields})


# The book.


def test_of_a_rejection_that_stands_there_twice_the_first_counts_and_its_note_says_when_it_was_retried() -> (
    None
):
    book = RejectedBook()
    note = rejection(None, retried_at=NOW)
    for record in (rejection(b"1", reason="first"), rejection(b"2", reason="second"), note):
        book.add(record.model_dump_json().encode(), "here")

    assert [(place, reject.reason) for place, reject in book.rejections.items()] == [
        ("usage.events/2/17", "first")
    ]
    assert book.find("usage.events/2/17").value == b"1"
    assert book.retried_at == {"usage.events/2/17": NOW}


def test_rows_of_one_record_are_rejections_of_their_own() -> None:
    book = RejectedBook()
    for row in (3, 4, 3):
        book.add(rejection(b"1", topic="usage.priced", row=row).model_dump_json().encode(), "here")

    assert list(book.rejections) == ["usage.priced/2/17/3", "usage.priced/2/17/4"]


@pytest.mark.parametrize("value", [None, b"no JSON", b"{}"])
def test_a_record_that_is_no_rejection_is_a_problem_with_its_place(value: bytes | None) -> None:
    book = RejectedBook()

    book.add(value, "usage.rejected[0]@3")

    assert book.rejections == {}
    assert book.problems[0].startswith("usage.rejected[0]@3 is no rejection: ")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("2:17", "events/2/17"),
        ("usage.priced/2/7/57", "usage.priced/2/7/57"),
        ("events/0/0", "events/0/0"),
    ],
)
def test_a_place_is_named_as_the_list_does_or_in_short(text: str, place: str) -> None:
    assert parse_place(text, "events") == place


@pytest.mark.parametrize("text", ["", "17", "2:", "2/17", "-1:2", "a/b/c"])
def test_what_names_no_rejection_is_wrong_use(text: str) -> None:
    with pytest.raises(SettingsError, match="names no rejection; say PARTITION:OFFSET"):
        parse_place(text, "events")


# The event that is sent again.


def test_a_rejection_keeps_the_id_of_its_event() -> None:
    assert event_id_of(rejection(BAD)) == "call-1"


@pytest.mark.parametrize(
    "value", [None, b"no JSON", b"\xff", GOOD, {**GOOD, "event_id": 5}, {"event_id": ""}, []]
)
def test_a_rejection_without_a_usable_id_gets_one_from_its_place(value: object) -> None:
    event_id = event_id_of(rejection(value))

    assert event_id == event_id_of(rejection(value))
    assert event_id != event_id_of(rejection(value, offset=18))
    assert len(event_id) == 36


@settings(deadline=None)
@given(value=st.binary(max_size=40) | st.none(), mended=st.sampled_from([GOOD, {**GOOD, "user_id": "bob"}]))
def test_whatever_was_refused_and_however_it_is_mended_its_id_is_the_same(
    value: bytes | None, mended: dict[str, Any]
) -> None:
    reject = rejection(value)

    sent = UsageEvent.from_wire(mended_event(reject, json.dumps(mended).encode()))

    assert sent.event_id == event_id_of(reject)


def test_what_is_not_mended_stays_as_it_was_sent_to_the_last_digit() -> None:
    value = b'{"model":"gpt-4o","provider":"openai","timestamp":"2026-11-03T11:00:00Z",'
    value += b'"metadata":{"n":12345678901234567890123,"f":0.10000000000000000001},"event_id":7}'

    sent = mended_event(rejection(value))

    fields = msgspec.json.decode(sent, type=dict[str, msgspec.Raw])
    assert bytes(fields["metadata"]) == b'{"n":12345678901234567890123,"f":0.10000000000000000001}'
    assert sent.count(b"event_id") == 1


@pytest.mark.parametrize(
    ("value", "reason"), [(BAD, "input_tokens"), (b"no JSON", "JSON"), (None, "no value"), ([], "object")]
)
def test_what_is_still_no_event_is_not_sent(value: object, reason: str) -> None:
    with pytest.raises(
        InvalidEventError, match=rf"usage\.events/2/17 is still no usage event.*{reason}.*--file"
    ):
        mended_event(rejection(value))


def test_a_mended_event_may_not_take_another_id() -> None:
    with pytest.raises(SettingsError, match="must have the event_id call-1, or none"):
        mended_event(rejection(BAD), json.dumps({**GOOD, "event_id": "call-2"}).encode())


# The command.


@pytest.fixture
def pipeline(on_kafka: dict[str, str], on_clickhouse: dict[str, str]) -> dict[str, str]:
    """Variables for a pipeline whose topics exist."""
    assert run("topics", "init", environment=on_kafka).code == 0
    return on_kafka | on_clickhouse


def rejected(pipeline: dict[str, str], *arguments: str) -> Answer:
    return run("rejected", *arguments, environment=pipeline)


def publish(
    pipeline: dict[str, str], topic: str, records: Sequence[tuple[int, bytes | None, bytes | None]]
) -> None:
    """Publish records of (partition, key, value)."""
    producer = Producer({"bootstrap.servers": pipeline["TOKENTIDE_BROKER"]})
    for partition, key, value in records:
        producer.produce(topic, value, key, partition=partition)
    assert producer.flush(30) == 0


class Meter:
    """The meter's core on one partition of a real topic: what counts, and what is rejected to `usage.rejected`."""

    def __init__(self, pipeline: dict[str, str], partition: int) -> None:
        self._pipeline = pipeline
        self._partition = partition
        self._seen = SeenIds(7)
        self._position = 0
        self.events: list[str] = []
        self.records: list[Record] = []

    def work(self) -> None:
        """Take what is new."""
        topic = self._pipeline["TOKENTIDE_TOPIC_EVENTS"]
        new = tuple(
            Log(KafkaSettings(self._pipeline["TOKENTIDE_BROKER"])).read(
                topic, self._partition, self._position
            )
        )
        if not new:
            return
        self._position = new[-1].offset + 1
        self.records += new
        priced = price_chunk(
            Chunk(topic, self._partition, new), self._seen, Catalogue(), datetime.now(UTC), 3600
        )
        self.events += map(str, priced.rows.column("event_id").to_pylist())
        publish(
            self._pipeline,
            self._pipeline["TOKENTIDE_TOPIC_REJECTED"],
            [(self._partition, None, reject.model_dump_json().encode()) for reject in priced.rejected],
        )


def test_a_mended_event_counts_once_however_often_and_by_whomever_it_is_submitted_again(
    pipeline: dict[str, str], tmp_path: Path
) -> None:
    events = pipeline["TOKENTIDE_TOPIC_EVENTS"]
    publish(pipeline, events, [(2, b"ann", b"no JSON"), (2, b"ann", json.dumps(BAD).encode())])
    meter = Meter(pipeline, 2)
    meter.work()
    files = [tmp_path / "ann.json", tmp_path / "bob.json"]
    for file in files:
        file.write_text(json.dumps({**GOOD, "user_id": file.stem}))
    unmended = rejected(pipeline, "retry", "2:0")

    # Two people at once, with different ideas; then a third who comes late.
    with ThreadPoolExecutor(2) as people:
        both = list(people.map(lambda file: rejected(pipeline, "retry", "2:0", "--file", str(file)), files))
    late = rejected(pipeline, "retry", f"{events}/2/0", "--file", str(files[0]))
    meter.work()

    assert unmended.code == 1
    assert f"{events}/2/0 is still no usage event, and nothing was sent" in unmended.err
    assert [answer.code for answer in both] == [0, 0], both
    assert "was submitted again at" in late.out
    assert "nothing is sent" in late.out
    sent = meter.records[2:]
    assert 1 <= len(sent) <= 2
    assert {record.key for record in sent} == {b"ann"}
    assert {dict(record.headers)[RETRY_HEADER] for record in sent} == {f"{events}/2/0".encode()}
    assert len(meter.events) == 1


def test_a_retry_whose_note_was_lost_in_a_crash_counts_once(pipeline: dict[str, str]) -> None:
    """The event and the note are two records: the first retry sends the event here, and goes no further."""
    publish(pipeline, pipeline["TOKENTIDE_TOPIC_EVENTS"], [(1, None, json.dumps(GOOD).encode())])
    meter = Meter(pipeline, 1)
    meter.work()
    place = f"{pipeline['TOKENTIDE_TOPIC_EVENTS']}/1/0"
    book = RejectedBook.read(ConsoleSettings.from_env(pipeline), lambda _: True)
    again = mended_event(book.find(place))
    publish(pipeline, pipeline["TOKENTIDE_TOPIC_EVENTS"], [(1, None, again)])
    meter.work()

    answer = rejected(pipeline, "retry", "1:0")
    meter.work()

    assert (answer.code, answer.err) == (0, "")
    assert meter.events == [event_id_of(book.find(place))]
    assert len(meter.records) == 3


def test_an_event_that_the_meter_rejects_again_is_a_rejection_of_its_own(
    pipeline: dict[str, str], tmp_path: Path
) -> None:
    """No reader of one record can tell that its time is too far ahead: the meter can."""
    events = pipeline["TOKENTIDE_TOPIC_EVENTS"]
    publish(pipeline, events, [(0, None, json.dumps(BAD).encode())])
    meter = Meter(pipeline, 0)
    meter.work()
    (tmp_path / "late.json").write_text(
        json.dumps({**GOOD, "timestamp": (datetime.now(UTC) + timedelta(hours=9)).isoformat()})
    )
    (tmp_path / "right.json").write_text(json.dumps(GOOD))

    first = rejected(pipeline, "retry", "0:0", "--file", str(tmp_path / "late.json"))
    meter.work()
    listed = json.loads(rejected(pipeline, "list", "--json").out)
    second = rejected(pipeline, "retry", "0:1", "--file", str(tmp_path / "right.json"))
    meter.work()

    assert (first.code, second.code) == (0, 0)
    assert [(each["place"], each["retried_at"] is None) for each in listed] == [
        (f"{events}/0/0", False),
        (f"{events}/0/1", True),
    ]
    assert "after its record was produced" in listed[1]["reason"]
    assert meter.events == ["call-1"]


def test_rejections_are_listed_shown_and_retried_by_their_reason(pipeline: dict[str, str]) -> None:
    events = pipeline["TOKENTIDE_TOPIC_EVENTS"]
    good = json.dumps({**GOOD, "metadata": {"x": "ü\u001b[2J"}}, ensure_ascii=False).encode()
    publish(
        pipeline,
        events,
        [(0, b"k", good), (0, b"\xff", b"\xff\xfe"), (0, None, None), (0, None, b"x" * 9000)],
    )
    Meter(pipeline, 0).work()

    listed = rejected(pipeline, "list")
    none = rejected(pipeline, "list", "--topic", "usage.nothing")
    recent = json.loads(rejected(pipeline, "list", "--since", "1h", "--json").out)
    text, binary, absent, long = (rejected(pipeline, "show", f"0:{offset}").out for offset in range(4))
    retried = rejected(pipeline, "retry", "--all", "--reason", "event_id: missing")
    nothing = rejected(pipeline, "retry", "--all", "--reason", "event_id: missing")

    assert [each["offset"] for each in recent] == [0, 1, 2, 3]
    assert f"{events}/0/0" in listed.out
    assert "event_id: missing" in listed.out
    assert none.out == "Nothing was rejected.\n"
    assert '"model": "gpt-4o"' in text
    assert "\x1b" not in text
    assert "0xfffe" in binary
    assert "value:           -" in absent
    assert "(9,000 bytes in all)" in long
    assert (retried.code, retried.out.count(" is submitted again as 0:4, event ")) == (0, 1)
    assert nothing.out == "There is nothing to submit again.\n"


def test_a_row_that_clickhouse_refused_is_stored_once_the_table_takes_it(pipeline: dict[str, str]) -> None:
    console = ConsoleSettings.from_env(pipeline)
    migrate(console.clickhouse)
    client = connect(console.clickhouse)
    client.command("ALTER TABLE usage_events ADD CONSTRAINT small CHECK input_tokens < 100")
    row = PricedUsage(
        **{**GOOD, "timestamp": NOW, "input_tokens": 700},
        event_id="large",
        source_partition=1,
        source_offset=57,
        list_cost_usd=None,
        cost_usd=None,
        input_cost_usd=None,
        cache_cost_usd=None,
        price_status=PriceStatus.UNPRICED,
        priced_at=NOW,
    ).model_dump() | {"metadata": "{}", "tags": []}
    value = write_chunk(pa.RecordBatch.from_pylist([row], schema=PRICED_SCHEMA))
    reject = rejection(value, topic=console.topics.priced, partition=1, offset=7, row=57, key=None)
    publish(pipeline, console.topics.rejected, [(1, None, reject.model_dump_json().encode())])

    shown = rejected(pipeline, "show", reject.place)
    refused = rejected(pipeline, "retry", reject.place)
    client.command("ALTER TABLE usage_events DROP CONSTRAINT small")
    with ThreadPoolExecutor(2) as people:
        both = list(people.map(lambda _: rejected(pipeline, "retry", reject.place), range(2)))
    found = client.query(
        "SELECT event_id, input_tokens, source_offset, priced_offset FROM usage_events FINAL"
    ).result_rows
    client.close()

    assert '"event_id": "large"' in shown.out
    assert refused.code == 1
    assert "Constraint `small`" in refused.err
    assert [answer.code for answer in both] == [0, 0], both
    assert found == [("large", 700, 57, 7)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["retry"], "Say which: PLACE"),
        (["retry", "0:1", "--all"], "Say which: PLACE"),
        (["retry", "0:1", "--reason", "x"], "--reason narrows --all"),
        (["retry", "--all", "--file", "x.json"], "give it with one PLACE"),
        (["retry", "0:1", "--file", "/nowhere.json"], "cannot be read: No such file"),
        (["list", "--since", "yesterday"], "--since takes 30m"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_sentence(arguments: list[str], words: str) -> None:
    answer = run("rejected", *arguments)

    assert answer.code == 2
    assert words in answer.err
    assert answer.err.count("\n") == 1


def test_a_place_where_nothing_was_rejected_is_named(pipeline: dict[str, str]) -> None:
    answer = rejected(pipeline, "show", "0:5")

    assert answer.code == 2
    assert answer.err.startswith(f"There is no rejection {pipeline['TOKENTIDE_TOPIC_EVENTS']}/0/5; ")
