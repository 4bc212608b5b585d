"""`tokentide audit --fix`: totals that alone differ are corrected once, however often it runs, and nothing else."""

import json
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from support.commands import Answer, run
from support.oracle import read_topic
from support.sources import Key, Sources, commit

from tokentide.console.audit import (
    AuditReport,
    AuditRules,
    Correction,
    Source,
    check_fixable,
    publish_corrections,
    run_audit,
)
from tokentide.console.audit.correction import Aggregates, corrections
from tokentide.console.audit.fix import updates
from tokentide.console.audit.totals import Cell, Used
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import Period, Scope, SettingsError
from tokentide.sinks import connect
from tokentide.streams.partition import entity_partition

RULES = AuditRules()
DAY_MS = 86_400_000
DAY = 1762128000
COST = 1000 * 2_500_000 + 10 * 10_000_000


def forgotten() -> Sources:
    """An event that came again after nine days: the meter counted it twice, and ClickHouse has it once."""
    sources = Sources()
    sources.event(0, "old", user_id="bob", sent_ms=int(time.time() * 1000) - 9 * DAY_MS)
    rows = list(sources.rows)
    sources.event(0, "old", user_id="bob")
    sources.rows = rows
    sources.event(1, "other")
    return sources


def audit_by_command(settings: ConsoleSettings, *arguments: str) -> Answer:
    return run("audit", *arguments, environment={**settings.environment(), "COLUMNS": "200"})


def published(settings: ConsoleSettings) -> list[tuple[str, int | None, dict[str, Any]]]:
    """Key, partition and content of the records of usage.spend."""
    return [
        ((message.key() or b"").decode(), message.partition(), json.loads(message.value() or b"{}"))
        for message in read_topic(settings.kafka.broker, settings.topics.spend)
    ]


def land(settings: ConsoleSettings) -> None:
    """Store what was published in ClickHouse, as a sink would; the meter has dealt with it, too."""
    names = ("scope", "scope_id", "source_partition", "adjustment", "version")
    counts = ("period", "requests", "input_tokens", "output_tokens", "unpriced_requests")
    rows = [
        {
            **{name: update[name] for name in names},
            **{name: total[name] for name in counts},
            "period_start": datetime.fromtimestamp(total["period_start"], UTC),
            "cost_usd": Decimal(total["cost_pico_usd"]).scaleb(-12),
        }
        for _, _, update in published(settings)
        for total in update["totals"]
    ]
    client = connect(settings.clickhouse)
    client.insert("spend_totals", [list(row.values()) for row in rows], column_names=list(rows[0]))
    client.close()
    ends = Counter(partition or 0 for _, partition, _ in published(settings))
    for group in (settings.meter_id, settings.sink_id):
        commit(settings, group, settings.topics.spend, ends)


def test_a_repeat_that_was_counted_twice_is_taken_out_of_every_total(settings: ConsoleSettings) -> None:
    forgotten().write(settings)
    report = run_audit(settings, rules=RULES)

    publish_corrections(settings, report, now_ms=1000)
    land(settings)

    assert run_audit(settings, rules=RULES).equal
    assert {each.off_by for each in report.corrections} == {Used(-1, -1000, -10, -COST, 0)}
    partitions = settings.partitions
    for key, partition, update in published(settings):
        name = f"{update['scope']}:{update['scope_id']}"
        assert (key, partition) == (f"{name}|0|audit", entity_partition(name, partitions))
        assert (update["adjustment"], update["source_partition"], update["version"]) == ("audit", 0, 1000)
        assert {each["period"] for each in update["totals"]} == {"hour", "day", "month"}
    assert len(published(settings)) == 4  # bob, his team, the provider, the model


def test_two_at_once_and_one_after_the_other_change_nothing_more(settings: ConsoleSettings) -> None:
    sources = forgotten()
    sources.adjustments.append((Key("user", "bob", "day", DAY, 0), "audit", [-5, 0, 0, 0, 0]))
    sources.write(settings)
    one, other = run_audit(settings, rules=RULES), run_audit(settings, rules=RULES)

    publish_corrections(settings, one, now_ms=3)
    publish_corrections(settings, other, now_ms=4)
    land(settings)
    after = run_audit(settings, rules=RULES)

    assert after.equal
    assert after.corrections == ()
    # The one that was there has version 9, so these are newer whatever the clock says; it is replaced, not added to.
    assert {update["version"] for _, _, update in published(settings)} == {10}
    [bob] = [each for each in one.corrections if each.cell == Cell(Scope.USER, "bob", Period.DAY, DAY)]
    assert (bob.off_by.requests, bob.adjustment.requests) == (4, -1)


def test_a_correction_is_what_must_be_added_without_what_was_added_before() -> None:
    a, b, c = (Cell(Scope.USER, name, Period.DAY, DAY) for name in "abc")
    expected = {a: Used(5), b: Used(1)}
    found = Aggregates({a: Used(7), b: Used(1), c: Used(2)}, {a: Used(-3), b: Used(-8)}, 40)

    assert list(corrections(expected, found)) == [
        Correction(a, Used(-2), Used(-5)),
        Correction(c, Used(-2), Used(-2)),
    ]


def test_each_entity_gets_one_record() -> None:
    cells = [Cell(Scope.USER, name, period, DAY) for period in Period for name in ("b", "a")]

    sent = list(updates([Correction(cell, Used(), Used(-1)) for cell in cells], 7))

    assert [(each.scope, each.scope_id, len(each.totals), each.version) for each in sent] == [
        ("user", "a", 3, 7),
        ("user", "b", 3, 7),
    ]


def test_the_command_offers_it_shows_it_and_writes_nothing_unless_told(settings: ConsoleSettings) -> None:
    forgotten().write(settings)

    plain = audit_by_command(settings)
    preview = audit_by_command(settings, "--fix", "--dry-run")
    as_json = audit_by_command(settings, "--fix", "--dry-run", "--json")

    assert (plain.code, preview.code, as_json.code) == (1, 1, 1), plain.err + preview.err + as_json.err
    assert "Corrections" not in plain.out
    assert "Only the totals in ClickHouse differ: `tokentide audit --fix` corrects 12 of them" in " ".join(
        plain.out.split()
    )
    table = preview.out.split("Totals by source")[0]
    [line] = [line for line in table.splitlines() if "user bob" in line and "2025-11-03 10:00" in line]
    for word in ("-1 ", "-1,000", "-0.0026"):
        assert word in line
    of_bob = [each for each in json.loads(as_json.out)["corrections"] if each["scope_id"] == "bob"]
    assert {each["off_by"]["cost_pico_usd"] for each in of_bob} == {str(-COST)}
    assert published(settings) == []


def test_an_equal_audit_has_nothing_to_fix(settings: ConsoleSettings) -> None:
    answer = audit_by_command(settings, "--fix")

    assert answer.code == 0, answer.err
    assert "There is nothing to fix." in answer.out


def test_a_preview_of_nothing_is_wrong_use(settings: ConsoleSettings) -> None:
    answer = audit_by_command(settings, "--dry-run")

    assert (answer.code, answer.out) == (2, "")
    assert "give both, or neither" in answer.err


@pytest.mark.parametrize("where", ["ClickHouse raw", "Faust state"])
def test_other_differences_are_not_hidden_by_adjustments(settings: ConsoleSettings, where: str) -> None:
    sources = forgotten()
    if where == "Faust state":
        sources.state[1, "user:alice|2025-11-03"]["1762164000"] = [9, 9, 9, 9, 9]
    else:
        del sources.rows[-1]
    sources.write(settings)

    answer = audit_by_command(settings, "--fix")

    assert answer.code == 2
    assert f"there are differences in {where}" in answer.err
    assert published(settings) == []


def test_a_pipeline_at_work_is_not_fixed(settings: ConsoleSettings) -> None:
    forgotten().write(settings)
    report = run_audit(settings, rules=RULES)

    for early in (replace(report, has_grown=True), replace(report, behind={"usage.priced": 1})):
        with pytest.raises(SettingsError, match="at rest"):
            publish_corrections(settings, early)
    assert published(settings) == []


def test_only_totals_can_be_fixed(settings: ConsoleSettings) -> None:
    report: AuditReport = run_audit(settings, rules=RULES)

    check_fixable(replace(report, differing=(Source.AGGREGATES,)))
    with pytest.raises(SettingsError, match="ClickHouse raw"):
        check_fixable(replace(report, differing=(Source.RAW, Source.AGGREGATES)))
