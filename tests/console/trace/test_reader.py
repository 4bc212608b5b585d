"""A trace becomes events by the rules of the README, and a malformed row is named by file and line."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.traces import REAL_TRACE, WITHOUT_IT, trace_rows

from tokentide.console.trace import TraceOptions, read_trace
from tokentide.schemas import SettingsError, UsageEvent

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = "2023-11-16 18:15:46.6805900,374,44\n"
CALL = '{"timestamp": "2024-05-01T12:00:00Z", "provider": "openai", "model": "gpt-4o", "input_tokens": 7'


def read(path: Path, text: str, options: TraceOptions | None = None) -> list[UsageEvent]:
    path.write_bytes(text.encode())
    return list(read_trace(path, options or TraceOptions()))


def test_every_row_becomes_the_event_that_the_rules_say(any_trace: Path) -> None:
    options = TraceOptions(
        models=(("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("openai", "o3")), users=50, teams=7
    )
    rows = trace_rows(any_trace)

    events = list(read_trace(any_trace, options))

    assert len(events) == len(rows)
    for i, (row, event) in enumerate(zip(rows, events, strict=True)):
        user = i * 7919 % 50
        assert event.event_id == str(uuid.uuid5(uuid.NAMESPACE_URL, f"{any_trace.name}:{i}"))
        assert (event.provider, event.model) == options.models[i % 3]
        assert event.user_id == f"user-{user:04d}"
        assert event.team_id == f"team-{user % 7:02d}"
        assert (event.input_tokens, event.output_tokens) == (row.input_tokens, row.output_tokens)
        assert event.timestamp == datetime.fromisoformat(row.moment[:26]).replace(tzinfo=UTC)
        assert event.source == "replay"


@pytest.mark.skipif(not REAL_TRACE.exists(), reason=WITHOUT_IT)
def test_the_recorded_trace_has_the_sums_that_are_published_about_it() -> None:
    events = list(read_trace(REAL_TRACE, TraceOptions()))

    assert len(events) == 19_366
    assert sum(event.input_tokens for event in events) == 22_361_870
    assert sum(event.output_tokens for event in events) == 4_088_665


def test_the_same_file_gives_the_same_events_again(any_trace: Path) -> None:
    assert list(read_trace(any_trace, TraceOptions())) == list(read_trace(any_trace, TraceOptions()))


def test_started_now_the_last_event_is_now_and_the_distances_stay(any_trace: Path) -> None:
    now = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
    recorded = list(read_trace(any_trace, TraceOptions()))

    moved = list(read_trace(any_trace, TraceOptions(start="now"), clock=lambda: now))

    assert max(event.timestamp for event in moved) == now
    assert len({new.timestamp - old.timestamp for old, new in zip(recorded, moved, strict=True)}) == 1
    assert [event.event_id for event in moved] == [event.event_id for event in recorded]


def test_a_time_with_a_zone_is_taken_at_its_word(tmp_path: Path) -> None:
    [event] = read(tmp_path / "t.csv", HEADER + "2023-11-16T18:15:46+02:00,1,2\n")

    assert event.timestamp == datetime(2023, 11, 16, 16, 15, 46, tzinfo=UTC)


def test_columns_may_stand_in_any_order_among_others(tmp_path: Path) -> None:
    [event] = read(
        tmp_path / "t.csv",
        "\ufeffid,GeneratedTokens, TIMESTAMP ,ContextTokens\r\n9,44,2023-11-16 18:15:46,374\r\n\r\n",
    )

    assert (event.input_tokens, event.output_tokens) == (374, 44)


def test_events_as_json_say_everything_themselves(tmp_path: Path) -> None:
    lines = [
        CALL + ', "event_id": "call-1", "user_id": "ada", "cache_read_tokens": 3}',
        "",
        CALL + ', "event_id": "call-2", "team_id": "search"}',
    ]

    events = read(tmp_path / "t.jsonl", "\n".join(lines))

    assert [event.event_id for event in events] == ["call-1", "call-2"]
    assert [(event.user_id, event.team_id) for event in events] == [("ada", None), (None, "search")]
    assert events[0].cache_read_tokens == 3
    assert {event.model for event in events} == {"gpt-4o"}


def test_events_as_json_without_an_id_get_the_one_of_their_row(tmp_path: Path) -> None:
    text = CALL + "}\n\n" + CALL + ', "event_id": "call-2"}\n' + CALL + "}\n"

    events = read(tmp_path / "t.jsonl", text)

    assert [event.event_id for event in events] == [
        str(uuid.uuid5(uuid.NAMESPACE_URL, "t.jsonl:0")),
        "call-2",
        str(uuid.uuid5(uuid.NAMESPACE_URL, "t.jsonl:2")),
    ]
    assert read(tmp_path / "t.jsonl", text) == events


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("2023-11-16 18:15:47,374", "line 3: 2 fields, but the header has 3"),
        ("2023-11-16 18:15:47,374,44,1", "line 3: 4 fields, but the header has 3"),
        ("2023-11-16 18:15:47,many,44", "line 3: ContextTokens 'many' is not a whole number"),
        ("2023-11-16 18:15:47,374,4.5", "line 3: GeneratedTokens '4.5' is not a whole number"),
        ("2023-11-16 18:15:47,374,", "line 3: GeneratedTokens '' is not a whole number"),
        ("2023-11-16 18:15:47,-3,44", "line 3: ContextTokens is -3, but a count cannot be negative"),
        ("2023-11-16 18:15:47,3,\u0664", "line 3: GeneratedTokens '\u0664' is not a whole number"),
        ("2023-11-16 18:15:47,3," + "9" * 5000, "line 3: GeneratedTokens has 5000 digits"),
        ("2023-11-16 18:15:47,2000000000,44", "line 3: input_tokens: .* less than or equal to 1000000000"),
        ("yesterday,374,44", "line 3: TIMESTAMP 'yesterday' is no time like 2023-11-16 18:15:46"),
        ("1923-11-16 18:15:47,374,44", "line 3: timestamp: .* must lie between the years 2010 and 2100"),
        ('"2023-11-16 18:15:47,374,44', "line 3: 1 fields, but the header has 3"),
    ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{tmp_path}/t.csv, {words}"):
        read(tmp_path / "t.csv", HEADER + ROW + row + "\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (CALL, "Invalid JSON"),
        ("[]", "Input should be an object"),
        (CALL + ', "output_tokens": -1}', "output_tokens: Input should be greater than or equal to 0"),
        (CALL + ', "total_tokens": 9}', "total_tokens = 9, but input_tokens"),
        ('{"timestamp": "2024-05-01T12:00:00Z", "model": "gpt-4o"}', "provider: Field required"),
    ],
)
def test_a_malformed_event_is_named_by_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{tmp_path}/t.jsonl, line 3: .*{words}"):
        read(tmp_path / "t.jsonl", CALL + "}\n\n" + line + "\n")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"TIMESTAMP,ContextTokens,GeneratedTokens\n\n", "there are no rows after the header"),
        (
            b"time,in,out\n1,2,3\n",
            "line 1: the header lacks TIMESTAMP, ContextTokens, GeneratedTokens; it must",
        ),
        (b"TIMESTAMP,ContextTokens,GeneratedTokens\n\xff,1,2\n", "line 2: the bytes are not UTF-8 .*save"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)

    with pytest.raises(SettingsError, match=f"^{path}(:|,) {words}"):
        list(read_trace(path, TraceOptions()))


def test_a_missing_file_and_a_directory_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.csv: cannot be read: No such file or directory"):
        list(read_trace(tmp_path / "gone.csv", TraceOptions()))
    with pytest.raises(SettingsError, match="it must be a file on disk"):
        list(read_trace(tmp_path, TraceOptions()))


def test_a_trace_too_long_to_end_now_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "2010-01-02 00:00:00,1,1\n2090-01-01 00:00:00,1,1\n")
    now = datetime(2026, 1, 1, tzinfo=UTC)

    with pytest.raises(SettingsError, match=r"moved to before 2010, .* use --start original"):
        list(read_trace(path, TraceOptions(start="now"), clock=lambda: now))


def test_only_the_rows_before_a_malformed_one_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(HEADER + ROW * 3 + "oops\n" + ROW)
    events = read_trace(path, TraceOptions())

    assert [next(events).timestamp for _ in range(3)] == [
        datetime(2023, 11, 16, 18, 15, 46, tzinfo=UTC) + timedelta(microseconds=680_590)
    ] * 3
    with pytest.raises(SettingsError, match="line 5: 1 fields"):
        next(events)
