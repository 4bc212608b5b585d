"""The whole audit, on real Kafka and ClickHouse: equal sources are equal, and each tampered one is named."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from support.commands import Answer, run
from support.sources import Key, Sources

from tokentide.console.audit import AuditReport, AuditRules, Source, run_audit
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import ServiceUnavailableError, SettingsError, StorageRefusedError
from tokentide.sinks import ClickHouseSettings, connect

RULES = AuditRules()
HOUR, DAY, MONTH = 1762164000, 1762128000, 1761955200
"""2025-11-03 10:00, that day, that month."""


def ordinary() -> Sources:
    """A bit of everything that may happen."""
    sources = Sources()
    for number in range(6):
        sources.event(number % 2, f"plain-{number}", user_id=f"user-{number}", input_tokens=100 + number)
    sources.event(0, "next-hour", timestamp="2025-11-03T11:00:00+00:00")
    sources.event(0, "last-of-october", timestamp="2025-10-31T23:59:59.999999+00:00")
    sources.event(1, "from-india", timestamp="2025-11-03T04:45:00+05:30", org_id="acme", operation="chat|a:b")
    sources.event(1, "nobody", user_id=None, team_id="")
    sources.event(0, "free", provider="ollama", model="llama3")
    sources.event(0, "unpriced", model="gpt-99", requests=3)
    sources.event(1, "seven-calls", requests=7)
    sources.log_event(1, "seven-calls", requests=7)
    sources.log_event(1, "plain-1", user_id="somebody else", input_tokens=9)
    sources.reject(0, b"no JSON")
    sources.reject(0, None)
    sources.reject(1, b'{"timestamp":"2025-11-03T10:00:00Z","provider":"openai","model":"gpt-4o"}')
    too_far = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2 * 3600))
    sources.reject(
        1, json.dumps({"event_id": "f", "timestamp": too_far, "provider": "p", "model": "m"}).encode()
    )
    return sources


def audit(settings: ConsoleSettings, sources: Sources) -> AuditReport:
    sources.write(settings)
    return run_audit(settings, rules=RULES)


def found(report: AuditReport) -> set[tuple[str, str, str, str, int, int]]:
    """The differences of days and of rows, without their times."""
    return {
        (each.source.name, each.scope, each.scope_id, each.field, each.expected, each.found)
        for each in report.differences
        if each.period in (None, "day")
    }


def audit_by_command(settings: ConsoleSettings, *arguments: str) -> Answer:
    return run("audit", *arguments, environment={**settings.environment(), "COLUMNS": "200"})


def test_equal_sources_are_equal(settings: ConsoleSettings) -> None:
    told: list[tuple[str, int]] = []
    ordinary().write(settings)

    report = run_audit(settings, rules=RULES, on_progress=lambda what, count: told.append((what, count)))

    assert report.differences == ()
    assert report.equal
    assert (report.records, report.events, report.duplicates, report.rejected) == (19, 13, 2, 4)
    assert report.unpriced == {"openai/gpt-99": 1}
    assert {used.requests for used in report.totals.values()} == {21}
    assert {used.unpriced_requests for used in report.totals.values()} == {3}
    # 100 + ... + 105 tokens, and six events of 1000 that cost money, each event with ten tokens of output.
    assert {used.cost_pico_usd for used in report.totals.values()} == {5615 * 2_500_000 + 110 * 10_000_000}
    assert (report.suspects, report.has_grown, report.is_early) == ((), False, False)
    assert ("records of the log", 19) in told


def test_nothing_at_all_is_equal(settings: ConsoleSettings) -> None:
    report = run_audit(settings, rules=RULES)

    assert report.equal
    assert report.records == 0


def test_a_missing_row_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.rows = [row for row in sources.rows if row["event_id"] != "plain-3"]

    report = audit(settings, sources)

    assert not report.equal
    assert report.suspects == (Source.RAW,)
    assert ("RAW", "event", "plain-3 @ 1:1", "rows", 1, 0) in found(report)
    assert ("RAW", "user", "user-3", "requests", 1, 0) in found(report)


def test_a_doubled_row_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    [row] = [row for row in sources.rows if row["event_id"] == "plain-3"]
    sources.rows.append({**row, "timestamp": "2025-11-04T10:15:00+00:00"})

    report = audit(settings, sources)

    assert report.suspects == (Source.RAW,)
    assert ("RAW", "event", "plain-3 @ 1:1", "rows", 1, 2) in found(report)
    assert ("RAW", "user", "user-3", "input_tokens", 0, 103) in found(report)


def test_a_row_of_no_record_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.rows.append({**sources.rows[0], "event_id": "made up", "partition": 7, "offset": 4})

    report = audit(settings, sources)

    assert report.suspects == (Source.RAW,)
    assert ("RAW", "event", "made up @ 7:4", "rows", 0, 1) in found(report)


def test_a_row_from_behind_the_end_of_the_log_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.rows.append({**sources.rows[0], "event_id": "of a deleted topic", "offset": 4000})

    report = audit(settings, sources)

    assert report.suspects == (Source.RAW,)
    assert found(report) == {("RAW", "event", "of a deleted topic @ 0:4000", "rows", 0, 1)}


def test_a_row_that_is_off_by_one_pico_dollar_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.rows[2]["cost"] += 1

    report = audit(settings, sources)

    right = 102 * 2_500_000 + 10 * 10_000_000
    assert report.suspects == (Source.RAW,)
    assert ("RAW", "user", "user-2", "cost_pico_usd", right, right + 1) in found(report)
    assert {(each.period, each.scope) for each in report.differences} == {
        (period, scope)
        for period in ("hour", "day", "month")
        for scope in ("user", "team", "provider", "model")
    }


def test_a_row_with_a_price_that_nobody_knows_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    [row] = [row for row in sources.rows if row["event_id"] == "unpriced"]
    row["cost"] = 0

    report = audit(settings, sources)

    assert report.suspects == (Source.RAW,)
    assert {(each.field, each.expected, each.found) for each in report.differences} >= {
        ("unpriced_requests", 3, 0)
    }


def test_an_aggregate_that_is_off_by_one_token_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.totals[Key("user", "user-2", "day", DAY, 0)][1] += 1

    report = audit(settings, sources)

    assert report.suspects == (Source.AGGREGATES,)
    assert found(report) == {("AGGREGATES", "user", "user-2", "input_tokens", 102, 103)}
    assert report.difference_count == 1
    assert report.differences[0].period_start == DAY


def test_an_hour_of_the_state_that_is_off_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.state[0, "team:search|2025-11-03"][str(HOUR)] = [1, 1, 1, 1, 1]

    report = audit(settings, sources)

    assert report.suspects == (Source.STATE,)
    assert {(each.scope, each.scope_id) for each in report.differences} == {("team", "search")}
    assert {(each.period, each.period_start) for each in report.differences} == {
        ("hour", HOUR),
        ("day", DAY),
        ("month", MONTH),
    }


def test_a_missing_rejected_record_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    partition, offset = sources.rejected.pop()

    report = audit(settings, sources)

    assert report.suspects == (Source.RAW,)
    assert found(report) == {("RAW", "rejected", f"{partition}:{offset}", "rows", 1, 0)}


def test_a_rejected_record_that_is_an_event_is_named(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.rejected.append((0, 0))

    report = audit(settings, sources)

    assert found(report) == {("RAW", "rejected", "0:0", "rows", 0, 1)}


def test_a_duplicate_in_another_partition_that_nobody_counted_puts_the_blame_on_the_log(
    settings: ConsoleSettings,
) -> None:
    sources = ordinary()
    offset = sources.log_event(2, "plain-0", user_id="user-0", input_tokens=100)

    report = audit(settings, sources)

    assert not report.equal
    assert report.suspects == (Source.LOG,)
    assert report.cross_partition_ids == ("plain-0",)
    assert ("RAW", "event", f"plain-0 @ 2:{offset}", "rows", 1, 0) in found(report)
    assert ("STATE", "user", "user-0", "requests", 2, 1) in found(report)


def test_a_duplicate_in_another_partition_that_all_counted_is_equal_and_told(
    settings: ConsoleSettings,
) -> None:
    sources = ordinary()
    sources.event(2, "plain-0", user_id="user-0", input_tokens=100)

    report = audit(settings, sources)

    assert report.equal
    assert (report.cross_partition_ids, report.cross_partition_count) == (("plain-0",), 1)


def test_a_duplicate_that_the_meter_had_forgotten_is_told(settings: ConsoleSettings) -> None:
    now_ms, day_ms = int(time.time() * 1000), 86_400_000
    sources = Sources()
    sources.event(0, "old", sent_ms=now_ms - 9 * day_ms)
    sources.event(0, "recent", sent_ms=now_ms - 6 * day_ms)
    sources.log_event(0, "recent")
    rows = list(sources.rows)
    sources.event(0, "old")
    sources.rows = rows

    report = audit(settings, sources)

    assert (report.late_duplicates, report.late_duplicate_count, report.duplicates) == (("old",), 1, 2)
    assert (report.late_duplicate_pico_usd, report.late_row_count) == (1000 * 2_500_000 + 10 * 10_000_000, 0)
    assert report.suspects == report.differing == (Source.AGGREGATES,)


def test_a_second_row_of_a_duplicate_that_the_meter_had_forgotten_is_explained(
    settings: ConsoleSettings,
) -> None:
    sources = Sources()
    sources.event(0, "old", sent_ms=int(time.time() * 1000) - 9 * 86_400_000)
    sources.event(0, "old", timestamp="2025-11-04T10:15:00+00:00")

    report = audit(settings, sources)

    assert report.differing == (Source.AGGREGATES,)
    assert (report.late_duplicate_count, report.late_row_count) == (1, 1)
    assert report.late_row_pico_usd == 1000 * 2_500_000 + 10 * 10_000_000
    assert report.totals[Source.RAW].requests == 2


def test_what_is_closed_is_not_asked_of_the_state_and_all_else_is(settings: ConsoleSettings) -> None:
    sources = ordinary()
    # Of partition 1 the third of November is closed: the state has its month, folded, and nothing else.
    for partition, name in [place for place in sources.state if place[0] == 1]:
        place = (partition, name[: -len("-03")])
        _, total = sources.months.get(place, (0, [0] * 5))
        of_day = sources.state.pop((partition, name)).values()
        sources.months[place] = (DAY, [sum(numbers) for numbers in zip(total, *of_day, strict=True)])
    sources.closed[1] = (DAY + 86_400, 0)

    report = audit(settings, sources)
    sources.months[1, "user:user-3|2025-11"][1][3] += 1
    sources._write_changelog(settings)
    later = run_audit(settings, rules=RULES)

    assert report.equal, report.differences
    assert report.retired > len(sources.months)
    assert [(each.source, each.scope_id, each.period) for each in later.differences] == [
        (Source.STATE, "user-3", "month")
    ]


def test_a_late_event_is_in_its_month_only_and_in_the_totals_as_an_adjustment(
    settings: ConsoleSettings,
) -> None:
    sources = ordinary()
    before = {key: list(numbers) for key, numbers in sources.totals.items()}
    state = {place: dict(hours) for place, hours in sources.state.items()}
    sources.event(0, "late", input_tokens=7)
    sources.event(0, "later", input_tokens=9, timestamp="2025-09-30T10:00:00+00:00")
    late, later = (len(sources.log[0]) - 2, len(sources.log[0]) - 1)
    sources.rows[-2]["late"], sources.rows[-1]["late"] = 1, 2
    for key, numbers in sources.totals.items():
        more = [now - then for now, then in zip(numbers, before.get(key, [0] * 5), strict=True)]
        if any(more):
            name = f"late/{later if key.start < MONTH else late}"
            if key.period == "month" and key.start == MONTH:
                sources.months[0, f"{key.scope}:{key.scope_id}|2025-11"] = (-1, more)
            else:
                sources.adjustments.append((key, name, more))
                sources.totals[key] = before.get(key, [0] * 5)
    sources.state.clear()
    sources.state.update(state)
    sources.closed[0] = (0, MONTH - 31 * 86_400)

    report = audit(settings, sources)

    assert report.equal, report.differences
    assert report.events == 15


def test_what_retention_removed_is_taken_from_the_rows(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.log_event(0, "plain-0")
    sources.event(0, "after")
    sources.write(settings)
    admin = AdminClient(settings.kafka.librdkafka())
    place = TopicPartition(settings.topics.events, 0, 2)
    admin.delete_records([place])[place].result(20)

    report = run_audit(settings, rules=RULES)

    assert report.equal, report.differences
    assert [(span.partition, span.start) for span in report.truncated] == [(0, 2)]
    assert (report.base_events, report.events, report.duplicates) == (2, 12, 3)


def test_a_total_is_wrong_also_where_retention_removed_its_events(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.totals[Key("user", "user-0", "hour", HOUR, 0)][3] -= 1
    sources.write(settings)
    admin = AdminClient(settings.kafka.librdkafka())
    place = TopicPartition(settings.topics.events, 0, 3)
    admin.delete_records([place])[place].result(20)

    report = run_audit(settings, rules=RULES)

    assert report.suspects == (Source.AGGREGATES,)
    assert report.difference_count == 1


def test_events_that_the_pipeline_has_not_taken_make_the_audit_early(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.write(settings)
    late = Sources(log=sources.log)
    late.log = {1: [sources.log[1][0]._replace(value=json.dumps({"no": "event"}).encode())]}
    late._write_log(settings)

    def send_more(what: str, count: int) -> None:
        if what.startswith("totals of"):
            late._write_log(settings)

    report = run_audit(settings, rules=RULES, on_progress=send_more)

    assert report.is_early
    assert report.has_grown


def test_the_command_says_that_all_is_equal(settings: ConsoleSettings) -> None:
    ordinary().write(settings)

    answer = audit_by_command(settings, "--wait", "20")

    assert answer.code == 0, answer.err
    assert "Compared 13 events in" in answer.out
    assert "2 duplicates and 4 rejected left out, 1 unpriced (openai/gpt-99)" in answer.out
    assert "Equal to the token and the pico-dollar" in answer.out
    assert answer.out.count("0.0151375") == 4
    assert answer.err == ""


def test_the_command_shows_what_is_not_equal(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.totals[Key("user", "user-2", "day", DAY, 0)][3] += 1
    sources.write(settings)

    answer = audit_by_command(settings)
    as_json = audit_by_command(settings, "--json")

    assert (answer.code, as_json.code) == (1, 1)
    assert "NOT EQUAL: 1 difference. Wrong: ClickHouse aggregates." in answer.out
    line = next(line for line in answer.out.splitlines() if "user user-2" in line)
    for word in ("2025-11-03", "cost", "0.000355 ", "0.000355000001", "0.000000000001"):
        assert word in line
    content = json.loads(as_json.out)
    assert content["equal"] is False
    assert content["suspects"] == ["ClickHouse aggregates"]
    assert content["differences"][0]["found"] == "355000001"


def test_a_row_that_clickhouse_refused_is_missing_with_the_reason(settings: ConsoleSettings) -> None:
    sources = ordinary()
    sources.rows = [row for row in sources.rows if row["event_id"] != "plain-2"]
    sources.write(settings)
    offset = next(number for number, sent in enumerate(sources.log[0]) if b"plain-2" in (sent.value or b""))
    client = connect(settings.clickhouse)
    # Its own row is there by now, so this one explains nothing.
    for row, reason in ((offset, "no more than 100 tokens"), (0, "it was mended since")):
        client.insert(
            "rejected_events",
            [[settings.topics.priced, 0, 4, row, datetime.now(UTC), reason]],
            column_names=[
                *("source_topic", "source_partition", "source_offset", "source_row", "timestamp", "reason")
            ],
        )
    client.close()

    report = run_audit(settings, rules=RULES)
    answer = audit_by_command(settings)

    assert not report.equal
    assert report.refused_rows == 1
    assert [(each.scope_id, each.reason) for each in report.differences if each.scope == "event"] == [
        (f"plain-2 @ 0:{offset}", "no more than 100 tokens")
    ]
    assert answer.code == 1
    assert f"event plain-2 @ 0:{offset}: no more than 100 tokens" in answer.out
    assert "1 row of these is missing for ClickHouse refused what is in them" in " ".join(answer.out.split())


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda s: replace(s, meter_id="nobody"),
            SettingsError,
            "nobody-spend-changelog.*tokentide topics init",
        ),
        (
            lambda s: replace(s, clickhouse=replace(s.clickhouse, database="elsewhere")),
            StorageRefusedError,
            "run `tokentide migrate`",
        ),
        (
            lambda s: replace(s, clickhouse=ClickHouseSettings(url="http://127.0.0.1:9")),
            ServiceUnavailableError,
            "does not answer",
        ),
        (
            lambda s: replace(s, clickhouse=replace(s.clickhouse, database="a;b")),
            SettingsError,
            "TOKENTIDE_CLICKHOUSE_DATABASE",
        ),
    ],
)
def test_what_cannot_be_audited_is_one_sentence(
    settings: ConsoleSettings,
    change: Callable[[ConsoleSettings], ConsoleSettings],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        run_audit(change(settings), rules=RULES)
