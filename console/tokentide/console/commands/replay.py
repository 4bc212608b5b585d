"""`tokentide replay`: a recorded trace as usage events."""

from pathlib import Path
from typing import Annotated

import typer

from tokentide.console.commands.options import Broker, Json

__all__ = ["replay"]


def replay(
    trace: Annotated[
        Path, typer.Option(metavar="FILE", help="Azure LLM trace (CSV), or one usage event a line (JSONL).")
    ],
    models: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER/MODEL,...", help="Models for a CSV, which names none.", show_default=False
        ),
    ] = None,
    users: Annotated[
        int | None, typer.Option(metavar="N", help="Users for a CSV.", show_default=False)
    ] = None,
    teams: Annotated[
        int | None, typer.Option(metavar="N", help="Teams for a CSV.", show_default=False)
    ] = None,
    rate: Annotated[
        str, typer.Option(metavar="RATE", help="max, 500 (events a second) or x10 (times recorded speed).")
    ] = "max",
    start: Annotated[
        str, typer.Option(metavar="original|now", help="Keep the recorded times, or let the last be now.")
    ] = "original",
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Publish a recorded trace; the same file gives the same event ids, so a second replay counts nothing."""
    raise NotImplementedError
