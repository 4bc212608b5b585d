"""`tokentide doctor`: is everything in place?"""

from pathlib import Path
from typing import Annotated

import typer

from tokentide.console.commands.options import Broker, ClickHouse, Json, Partitions

__all__ = ["doctor"]


def doctor(
    broker: Broker = None,
    clickhouse: ClickHouse = None,
    partitions: Partitions = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the free disk space is looked at.")
    ] = None,
    json: Json = False,
) -> None:
    """Check Kafka, topics, ClickHouse, clocks, versions and disk; exit code 1 when something is a problem."""
    import json as encoder

    from rich.console import Console
    from rich.markup import escape

    from tokentide.console.data_dir import default_data_dir
    from tokentide.console.doctor import examine
    from tokentide.console.settings import ConsoleSettings

    settings = ConsoleSettings.from_env(broker=broker, clickhouse_url=clickhouse, partitions=partitions)
    console = Console(soft_wrap=True, highlight=False)
    findings = []
    for finding in examine(settings, data or default_data_dir()):
        findings.append(finding)
        if not json:
            word = "[red]problem[/]" if finding.is_problem else "[green]ok[/]     "
            advice = f" -> {finding.advice}" if finding.is_problem else ""
            console.print(f"{word}  {escape(f'{finding.check}: {finding.seen}{advice}')}")
    problems = sum(finding.is_problem for finding in findings)
    if json:
        entries = [
            {"check": each.check, "ok": not each.is_problem, "seen": each.seen, "advice": each.advice}
            for each in findings
        ]
        print(encoder.dumps({"ok": problems == 0, "findings": entries}))
    elif problems:
        console.print(f"{problems} of {len(findings)} checks found a problem.")
    raise typer.Exit(1 if problems else 0)
