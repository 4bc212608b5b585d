"""`tokentide kafka` and `tokentide clickhouse`: the embedded servers alone, in the foreground."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tokentide.schemas import SettingsError

__all__ = ["clickhouse", "kafka"]

_WRITER = "TOKENTIDE_CLICKHOUSE_USER"
_WRITER_PASSWORD = "TOKENTIDE_CLICKHOUSE_PASSWORD"
_READER_PASSWORD = "TOKENTIDE_CLICKHOUSE_READER_PASSWORD"


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
    port: Annotated[int, typer.Option(metavar="N", help="Port, 0 for a free one.")] = 8123,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on; other than loopback needs passwords."),
    ] = "127.0.0.1",
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Who may write, with the password in {_WRITER_PASSWORD}; else {_WRITER}, else default. "
            "Without a password everybody on this host may write.",
            show_default=False,
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Who may only read, with the password in {_READER_PASSWORD}, or without one.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve ClickHouse's engine over HTTP until Ctrl-C; prints `ready http://HOST:PORT` when it answers."""
    from tokentide.sinks.embedded import serve

    password = os.environ.get(_WRITER_PASSWORD) or None
    if password is None and (user or reader):
        named = f"--user {user}" if user else f"--reader {reader}"
        raise SettingsError(
            f"{named} protects nothing while everybody may write: put the password of the one who may write "
            f"into {_WRITER_PASSWORD}."
        )
    serve(
        path,
        port,
        host=host,
        user=(user or os.environ.get(_WRITER) or "default") if password else None,
        password=password,
        reader_user=reader,
        reader_password=os.environ.get(_READER_PASSWORD) or None,
    )
