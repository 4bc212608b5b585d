"""`tokentide rebuild`: the meter's state from ClickHouse."""

from typing import Annotated

import typer

from tokentide.console.commands.options import Broker, ClickHouse, Json

__all__ = ["rebuild"]


def rebuild(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is lost and what would be written; change nothing.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Wait until the last meter has left its group, but no longer.",
            show_default=False,
        ),
    ] = 0,
    broker: Broker = None,
    clickhouse: ClickHouse = None,
    json: Json = False,
) -> None:
    """Write the meter's changelogs anew from ClickHouse, where they were deleted or emptied.

    Stop all meters first. Afterwards they go on at the last record that ClickHouse had, and count the rest again.
    """
    import json as encoder
    from dataclasses import asdict

    from rich.console import Console

    from tokentide.console.rebuild import run_rebuild
    from tokentide.console.settings import ConsoleSettings

    settings = ConsoleSettings.from_env(broker=broker, clickhouse_url=clickhouse)
    with Console(stderr=True).status("Looking for what is lost ...") as status:
        rebuilt = run_rebuild(
            settings,
            dry_run=dry_run,
            wait_seconds=wait,
            on_progress=lambda table, records: status.update(f"{records:,} records of {table} ..."),
        )
    if json:
        print(encoder.dumps({"dry_run": dry_run, "rebuilt": [asdict(partition) for partition in rebuilt]}))
        return
    for partition in rebuilt:
        print(
            f"{'lost' if dry_run else 'rebuilt'}  {partition.table}[{partition.partition}]  {partition.records:,} "
            f"records, the meter goes on at offset {partition.position}"
        )
        if partition.missing:
            print(
                f"         {partition.missing} records behind that are gone from Kafka and never reached ClickHouse: "
                "what they said is not counted; run `tokentide audit` once the meter has caught up"
            )
    if dry_run:
        print("Nothing was changed; run it without --dry-run while no meter runs.")
    else:
        print("Start the meters; `tokentide audit --wait 60` then says whether all is equal.")
