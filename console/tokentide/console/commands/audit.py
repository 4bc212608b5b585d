"""`tokentide audit`: is every total exact?"""

from typing import TYPE_CHECKING, Annotated

import typer

from tokentide.console.commands.options import Broker, ClickHouse, Json

if TYPE_CHECKING:
    from rich.console import Console

    from tokentide.console.audit import AuditReport

__all__ = ["audit"]

_FIX_WAIT_SECONDS = 60.0


def audit(
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Wait until the meter and the sink have caught up, but no longer.",
            show_default=False,
        ),
    ] = 0,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Correct the totals in ClickHouse by adjustments where they alone differ, and audit again.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --fix: say what it would publish, and publish nothing.")
    ] = False,
    broker: Broker = None,
    clickhouse: ClickHouse = None,
    json: Json = False,
) -> None:
    """Compare Kafka, the meter's state and ClickHouse to the token and the pico-dollar; exit code 1 when unequal.

    Reads every event that Kafka holds and prices it anew: about two minutes for a million. Writes nothing, but with
    --fix; then the exit code is that of the audit behind it.
    """
    from rich.console import Console

    from tokentide.console.audit import (
        check_fixable,
        corrections_table,
        publish_corrections,
        run_audit,
        to_json,
    )
    from tokentide.console.lag import wait_until_settled
    from tokentide.console.settings import ConsoleSettings
    from tokentide.schemas import SettingsError

    if dry_run and not fix:
        raise SettingsError("--dry-run says what --fix would publish: give both, or neither")
    settings = ConsoleSettings.from_env(broker=broker, clickhouse_url=clickhouse)
    console = Console()
    with Console(stderr=True).status("Starting the audit ...") as status:

        def settle(seconds: float) -> None:
            wait_until_settled(
                settings,
                seconds,
                lambda behind: status.update(f"Waiting: {sum(behind.values()):,} records behind ..."),
            )

        def look() -> "AuditReport":
            return run_audit(settings, on_progress=lambda what, count: status.update(f"{count:,} {what} ..."))

        if wait:
            settle(wait)
        report = look()
        fixed: AuditReport | None = None
        if fix and not report.equal:
            check_fixable(report)
            if not dry_run:
                publish_corrections(settings, report)
                settle(max(wait, _FIX_WAIT_SECONDS))
                fixed = look()
    last = fixed or report
    if json:
        # What was corrected stands beside the audit that shows what came of it.
        print(to_json(last, report.corrections))
    else:
        if fix and report.corrections:
            console.print(corrections_table(report))
        if fixed is not None:
            console.print(f"Published {len(report.corrections):,} corrections, and audited again:")
        _show(console, last)
        if fix and not report.corrections and report.equal:
            console.print("There is nothing to fix.")
    raise typer.Exit(0 if last.equal else 1)


def _show(console: "Console", report: "AuditReport") -> None:
    from rich.text import Text

    from tokentide.console.audit import differences_table, sentences, totals_table

    console.print(totals_table(report))
    if not report.equal:
        console.print(differences_table(report))
    for sentence in sentences(report):
        console.print(Text(sentence), soft_wrap=True)
