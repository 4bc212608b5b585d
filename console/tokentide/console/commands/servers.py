"""`tokentide kafka` and `tokentide clickhouse`: the embedded servers alone, in the foreground."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["clickhouse", "kafka"]


def kafka(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Keeps the records.")],
    port: Annotated[int, typer.Option(metavar="N", help="Port of the first node on 127.0.0.1.")] = 9092,
    nodes: Annotated[int, typer.Option(help="1, or 3 for replication.")] = 1,
) -> None:
    """Serve a real Apache Kafka until Ctrl-C; prints `ready HOST:PORT` when it answers."""
    from tokentide.console.kafka import run

    run(data, port, nodes)


def clickhouse(
    path: Annotated[Path, typer.Option(metavar="DIR", help="Keeps the tables.")],
    port: Annotated[int, typer.Option(metavar="N", help="Port on 127.0.0.1.")] = 8123,
    user: Annotated[
        str | None, typer.Option(help="Name to log in with; the password is TOKENTIDE_CLICKHOUSE_PASSWORD.")
    ] = None,
) -> None:
    """Serve ClickHouse's engine over HTTP until Ctrl-C; prints `ready http://127.0.0.1:PORT` when it answers."""
    import os

    from tokentide.sinks.embedded import serve

    password = os.environ.get("TOKENTIDE_CLICKHOUSE_PASSWORD") or None
    serve(path, port, user=user if password else None, password=password if user else None)
