"""What a person reads of an audit: two tables and a few sentences."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from tokentide.console.audit.report import AuditReport, Difference, Source
from tokentide.schemas import Period, format_usd

__all__ = ["corrections_table", "differences_table", "sentences", "totals_table"]

_SHOWN = 20
_SHOWN_ROWS = 8
_SHOWN_IDS = 3
_SHOWN_CORRECTIONS = 60
_MOMENTS = {Period.HOUR.value: "%Y-%m-%d %H:00", Period.DAY.value: "%Y-%m-%d", Period.MONTH.value: "%Y-%m"}


def totals_table(report: AuditReport) -> Table:
    """Return what each source says of everything together."""
    table = Table("source", *_HEADINGS, title="Totals by source", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for source, used in report.totals.items():
        is_wrong = source in report.suspects
        table.add_row(
            Text(source.value, style="bold red" if is_wrong else ""),
            f"{used.requests:,}",
            f"{used.input_tokens:,}",
            f"{used.output_tokens:,}",
            format_usd(used.cost_pico_usd),
            f"{used.unpriced_requests:,}",
        )
    return table


_HEADINGS = ("requests", "input tokens", "output tokens", "cost USD", "unpriced requests")


def differences_table(report: AuditReport) -> Table:
    """Return the first differences: some of single rows, and those of totals, days first."""
    table = Table(
        *("source", "of", "when (UTC)", "number"),
        title="First differences",
        title_justify="left",
        show_lines=False,
    )
    for heading in ("Kafka log says", "found", "off by"):
        table.add_column(heading, justify="right")
    for difference in _shown(report):
        table.add_row(
            difference.source.value,
            Text(
                f"{difference.scope} {difference.scope_id}"
                + (f": {difference.reason}" if difference.reason else "")
            ),
            _moment(difference),
            difference.field.removesuffix("_pico_usd").replace("_", " "),
            _amount(difference.field, difference.expected),
            _amount(difference.field, difference.found),
            _amount(difference.field, difference.found - difference.expected),
        )
    return table


def corrections_table(report: AuditReport) -> Table:
    """Return what would be added to totals, or was, less what was added to them before."""
    table = Table("of", "when (UTC)", *_HEADINGS, title="Corrections", title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    for cell, off_by, _ in report.corrections[:_SHOWN_CORRECTIONS]:
        table.add_row(
            Text(f"{cell.scope} {cell.scope_id}"),
            _time(cell.period, cell.period_start),
            *(_amount(field, number) for field, number in off_by._asdict().items()),
        )
    more = len(report.corrections) - _SHOWN_CORRECTIONS
    if more > 0:
        table.add_row(f"... and {more:,} more (--json has all)")
    return table


def sentences(report: AuditReport) -> Iterator[str]:
    """Yield what was compared, what came of it, and what to bear in mind."""
    yield (
        f"Compared {_count(report.events, 'event')} in {report.cells:,} totals per hour, day and month; "
        f"{_count(report.duplicates, 'duplicate')} and {report.rejected:,} rejected left out, "
        f"{sum(report.unpriced.values()):,} unpriced{_models(report)}; {report.seconds:.1f} s."
    )
    if report.equal:
        yield "Equal to the token and the pico-dollar: Kafka = Faust state = ClickHouse raw = ClickHouse aggregates."
    else:
        more = report.difference_count - len(_shown(report))
        yield (
            f"NOT EQUAL: {_count(report.difference_count, 'difference')}"
            + (
                f", {more:,} more than shown (--json has the first {len(report.differences):,})"
                if more
                else ""
            )
            + f". {_blame(report)}"
        )
    yield from _remarks(report)


def _remarks(report: AuditReport) -> Iterator[str]:
    if report.truncated:
        partitions = ", ".join(str(span.partition) for span in report.truncated)
        yield (
            f"Retention has removed the first records of partition {partitions}: {report.base_events:,} older events "
            "were taken from ClickHouse raw as they stand there."
        )
    if report.retired:
        yield (
            f"{report.retired:,} days and months of entities are closed, so the state has them no longer; those were "
            "not compared with it."
        )
    if report.late_duplicate_count:
        yield (
            f"{_count(report.late_duplicate_count, 'duplicate')} came later than the meter remembers ids "
            f"(TOKENTIDE_DEDUPE_DAYS), so it counted them again, {format_usd(report.late_duplicate_pico_usd)} USD in "
            f"all: {_ids(report.late_duplicates)}."
        )
    if report.late_row_count:
        verb = "has" if report.late_row_count == 1 else "have"
        yield (
            f"{report.late_row_count:,} of them {verb} another day than the first of the id, so `usage` shows "
            f"them as rows of their own: {format_usd(report.late_row_pico_usd)} USD too much."
        )
    if report.corrections:
        yield (
            f"Only the totals in ClickHouse differ: `tokentide audit --fix` corrects "
            f"{len(report.corrections):,} of them by adjustments, and with --dry-run it says what it would publish."
        )
    if report.refused_rows:
        verb = "is" if report.refused_rows == 1 else "are"
        yield (
            f"{_count(report.refused_rows, 'row')} of these {verb} missing for ClickHouse refused what is "
            "in them; the totals count them. `tokentide rejected list` shows them, and `tokentide rejected retry` "
            "stores them once the table takes them."
        )
    if report.cross_partition_count:
        yield (
            f"{_count(report.cross_partition_count, 'event id')} stand in several partitions and count once in each: "
            f"{_ids(report.cross_partition_ids)}; a retry must be sent with the key of the first try."
        )
    if report.is_early:
        behind = ", ".join(f"{topic} by {count:,}" for topic, count in report.behind.items() if count)
        reasons = [f"the pipeline was behind ({behind})"] if behind else []
        reasons += ["events came in meanwhile"] if report.has_grown else []
        yield (
            f"This audit may be early: {' and '.join(reasons)}; `tokentide audit --wait 60` lets the pipeline catch "
            "up first."
        )


def _blame(report: AuditReport) -> str:
    if report.suspects == (Source.LOG,):
        return (
            "The other three agree with each other: the meter has not counted what the log holds now, or the log was "
            "changed after it was counted."
        )
    return f"Wrong: {', '.join(report.suspects)}."


def _shown(report: AuditReport) -> list[Difference]:
    rows = [difference for difference in report.differences if difference.period is None]
    totals = [difference for difference in report.differences if difference.period is not None]
    kept = rows[: max(_SHOWN_ROWS, _SHOWN - len(totals))]
    return (kept + totals)[:_SHOWN]


def _models(report: AuditReport) -> str:
    names = sorted(report.unpriced, key=lambda name: (-report.unpriced[name], name))
    return f" ({_ids(tuple(names))})" if names else ""


def _ids(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN_IDS]) + (", ..." if len(names) > _SHOWN_IDS else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _moment(difference: Difference) -> str:
    if difference.period is None or difference.period_start is None:
        return ""
    return _time(difference.period, difference.period_start)


def _time(period: str, start: int) -> str:
    return datetime.fromtimestamp(start, UTC).strftime(_MOMENTS[period])


def _amount(field: str, number: int) -> str:
    return format_usd(number) if field == "cost_pico_usd" else f"{number:,}"
