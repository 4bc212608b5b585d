"""Options that several commands share, and the settings they make."""

from typing import Annotated

import typer

__all__ = ["Broker", "ClickHouse", "Json", "Models", "Partitions", "Rate", "Teams", "Users"]

Broker = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="HOST:PORT",
        help="Kafka to talk to; else TOKENTIDE_BROKER, else 127.0.0.1:9092.",
        show_default=False,
    ),
]
ClickHouse = Annotated[
    str | None,
    typer.Option(
        "--clickhouse",
        metavar="URL",
        help="ClickHouse over HTTP; else TOKENTIDE_CLICKHOUSE_URL, else http://127.0.0.1:8123.",
        show_default=False,
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(
        "--partitions",
        metavar="N",
        help="Partitions of the topics; else TOKENTIDE_PARTITIONS, else 4.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Models = Annotated[
    str | None,
    typer.Option(
        metavar="PROVIDER/MODEL,...", help="Models for a CSV, which names none.", show_default=False
    ),
]
Users = Annotated[int | None, typer.Option(metavar="N", help="Users for a CSV.", show_default=False)]
Teams = Annotated[int | None, typer.Option(metavar="N", help="Teams for a CSV.", show_default=False)]
Rate = Annotated[
    str, typer.Option(metavar="RATE", help="max, 500 (events a second) or x10 (times recorded speed).")
]
