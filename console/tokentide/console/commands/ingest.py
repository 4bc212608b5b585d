"""`tokentide ingest`: usage events over HTTP."""

from typing import Annotated

import typer

from tokentide.console.commands.options import Broker

__all__ = ["ingest"]


def ingest(
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; else TOKENTIDE_INGEST_HOST, else 127.0.0.1. Other than loopback needs keys.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="N",
            help="Port, 0 for a free one; else TOKENTIDE_INGEST_PORT, else 8090.",
            show_default=False,
        ),
    ] = None,
    broker: Broker = None,
) -> None:
    """Take usage events over HTTP until Ctrl-C; prints `ready http://HOST:PORT` when it answers."""
    from tokentide.console.ingest import IngestSettings, run_ingest

    run_ingest(IngestSettings.from_env(broker=broker, host=host, port=port))
