"""`tokentide audit`: is every total exact?"""

from typing import Annotated

import typer

from tokentide.console.commands.options import Broker, ClickHouse, Json

__all__ = ["audit"]


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
    broker: Broker = None,
    clickhouse: ClickHouse = None,
    json: Json = False,
) -> None:
    """Compare Kafka, the meter's state and ClickHouse to the token and the pico-dollar; exit code 1 when unequal.

    Reads every event that Kafka holds and prices it anew: about two minutes for a million.
    """
    from rich.console import Console
    from rich.text import Text

    from tokentide.console.audit import differences_table, run_audit, sentences, to_json, totals_table
    from tokentide.console.lag import wait_until_settled
    from tokentide.console.settings import ConsoleSettings

    settings = ConsoleSettings.from_env(broker=broker, clickhouse_url=clickhouse)
    with Console(stderr=True).status("Starting the audit ...") as status:
        if wait:
            wait_until_settled(
                settings,
                wait,
                lambda behind: status.update(f"Waiting: {sum(behind.values()):,} records behind ..."),
            )
        report = run_audit(settings, on_progress=lambda what, count: status.update(f"{count:,} {what} ..."))
    if json:
        print(to_json(report))
    else:
        console = Console()
        console.print(totals_table(report))
        if not report.equal:
            console.print(differences_table(report))
        for sentence in sentences(report):
            console.print(Text(sentence), soft_wrap=True)
    raise typer.Exit(0 if report.equal else 1)
