"""Who is to blame for differences, and what a person reads of them."""

import ast
from dataclasses import replace
from pathlib import Path

import tokentide.console.audit
from tokentide.console.audit import AuditReport, Difference, Source, differences_table, sentences
from tokentide.console.audit.findings import Findings
from tokentide.console.audit.log import Span
from tokentide.console.audit.totals import Used

OTHERS = (Source.STATE, Source.RAW, Source.AGGREGATES)


def difference(source: Source, scope_id: str = "alice", found: int = 1) -> Difference:
    return Difference(source, "user", scope_id, "day", 1_762_128_000, "requests", 2, found)


def row(scope: str = "event") -> Difference:
    return Difference(Source.RAW, scope, "e @ 0:1", None, None, "rows", 1, 0)


def suspects(*differences: Difference) -> tuple[Source, ...]:
    findings = Findings()
    findings.add(differences)
    return findings.suspects()


def report(**changes: object) -> AuditReport:
    quiet = AuditReport(
        equal=True,
        records=3,
        events=1,
        base_events=0,
        duplicates=1,
        rejected=1,
        unpriced={},
        totals={source: Used(1, 2, 3, 4, 0) for source in Source},
        cells=12,
        difference_count=0,
        differences=(),
        suspects=(),
        differing=(),
        corrections=(),
        adjusted_version=0,
        cross_partition_ids=(),
        cross_partition_count=0,
        late_duplicates=(),
        late_duplicate_count=0,
        late_duplicate_pico_usd=0,
        late_row_count=0,
        late_row_pico_usd=0,
        refused_rows=0,
        truncated=(),
        retired=0,
        has_grown=False,
        behind={"usage.events": 0},
        seconds=0.5,
    )
    return replace(quiet, **changes)  # type: ignore[arg-type]  # any field


def test_who_differs_alone_is_wrong() -> None:
    assert suspects() == ()
    assert suspects(difference(Source.STATE)) == (Source.STATE,)
    assert suspects(difference(Source.STATE), difference(Source.RAW)) == (Source.STATE, Source.RAW)


def test_where_all_others_agree_the_log_is_wrong() -> None:
    agreed = [difference(source) for source in OTHERS]

    assert suspects(*agreed) == (Source.LOG,)
    assert suspects(*agreed, row()) == (Source.LOG,)
    assert suspects(*agreed, difference(Source.RAW, "bob")) == (Source.LOG, Source.RAW)


def test_where_all_differ_from_each_other_all_are_wrong() -> None:
    assert suspects(*(difference(source, found=number) for number, source in enumerate(OTHERS))) == OTHERS


def test_rows_are_wrong_where_totals_are_right() -> None:
    assert suspects(row()) == (Source.RAW,)
    assert suspects(*(difference(source) for source in OTHERS), row("rejected")) == (Source.LOG, Source.RAW)


def test_all_differences_count_and_the_first_are_kept_in_turn() -> None:
    findings = Findings()
    findings.add(difference(Source.STATE, f"user-{number}") for number in range(1000))
    findings.add(difference(Source.RAW, f"user-{number}") for number in range(1000))

    first = findings.first()

    assert findings.count == 2000
    assert len(first) == 500
    assert [(each.source, each.scope_id) for each in first[:3]] == [
        (Source.STATE, "user-0"),
        (Source.RAW, "user-0"),
        (Source.STATE, "user-1"),
    ]


def test_twenty_differences_are_shown_and_the_others_counted() -> None:
    kept = tuple([row()] * 30 + [difference(Source.RAW, f"user-{number}") for number in range(30)])
    unequal = report(equal=False, difference_count=1234, differences=kept, suspects=(Source.RAW,))

    table, text = differences_table(unequal), " ".join(sentences(unequal))

    assert table.row_count == 20
    assert "NOT EQUAL: 1,234 differences, 1,214 more than shown (--json has the first 60)" in text
    assert "Wrong: ClickHouse raw." in text


def test_an_equal_audit_says_what_was_compared() -> None:
    assert list(sentences(report())) == [
        "Compared 1 event in 12 totals per hour, day and month; 1 duplicate and 1 rejected left out, 0 unpriced; "
        "0.5 s.",
        "Equal to the token and the pico-dollar: Kafka = Faust state = ClickHouse raw = ClickHouse aggregates.",
    ]


def test_what_limits_the_verdict_is_said() -> None:
    limited = report(
        truncated=(Span(2, 10, 20),),
        base_events=9,
        retired=4,
        late_duplicate_count=1,
        late_duplicate_pico_usd=7,
        late_duplicates=("old",),
        cross_partition_count=5,
        cross_partition_ids=("a", "b", "c", "d"),
        has_grown=True,
        behind={"usage.events": 0, "usage.priced": 7},
    )

    text = "\n".join(sentences(limited))

    assert "first records of partition 2: 9 older events were taken from ClickHouse raw" in text
    assert "4 days and months of entities are closed" in text
    assert "1 duplicate came later than the meter remembers ids (TOKENTIDE_DEDUPE_DAYS)" in text
    assert "0.000000000007 USD in all" in text
    assert "5 event ids stand in several partitions and count once in each: a, b, c, ...;" in text
    assert (
        "the pipeline was behind (usage.priced by 7) and events came in meanwhile; `tokentide audit --wait"
        in text
    )


def test_the_audit_shares_no_code_with_the_meter() -> None:
    folder = Path(tokentide.console.audit.__file__).parent

    imported = {
        node.module
        for path in folder.glob("*.py")
        if path.name != "fix.py"  # it publishes; where an entity belongs is one rule for all
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }

    assert not [name for name in imported if name.startswith("tokentide.streams")]
    assert "genai_prices" in imported
