"""What a demo shows while it runs, on a terminal and in a log."""

import io
from decimal import Decimal

from rich.console import Console

from tokentide.console.demo import DemoView, Snapshot, snapshot_line

SNAPSHOT = Snapshot(19_366, 12_000, 8_000, 4321.4, 17, Decimal("1234.567"), 3)


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


def test_a_line_holds_all_the_numbers() -> None:
    assert snapshot_line(SNAPSHOT) == (
        "published 12,000 of 19,366  in ClickHouse 8,000  events/s 4,321  records behind 17  "
        "spend $1,234.57  alerts 3"
    )


def test_without_a_terminal_numbers_come_every_few_seconds_and_sentences_at_once() -> None:
    clock = Clock()
    output = io.StringIO()

    with DemoView(Console(file=output, width=40), clock) as view:
        view.say("Replaying [bold]trace.csv[/bold].")
        for second in range(7):
            clock.now = 50.0 + second
            view.show(SNAPSHOT)
            view.hint("Auditing: 1,000 records")

    assert output.getvalue().splitlines() == [
        "  0.0 s  Replaying [bold]trace.csv[/bold].",
        f"  0.0 s  {snapshot_line(SNAPSHOT)}",
        f"  3.0 s  {snapshot_line(SNAPSHOT)}",
        f"  6.0 s  {snapshot_line(SNAPSHOT)}",
    ]


def test_on_a_terminal_the_numbers_are_a_table_that_is_gone_at_the_end() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, height=20, _environ={})

    with DemoView(console) as view:
        view.say("Replaying.")
        view.show(SNAPSHOT)
        console.print("")
        view.warn("meter-1 is waiting")

    text = output.getvalue()
    assert "12,000 of 19,366" in text
    assert "meter-1 is waiting" in text
    # The last thing written moves up and erases the table's lines.
    assert text.rstrip().endswith("\x1b[2K")
