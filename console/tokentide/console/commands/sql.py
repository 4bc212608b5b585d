"""`tokentide sql`: a question to ClickHouse."""

import sys
from typing import Annotated

import typer

from tokentide.console.commands.options import ClickHouse, Json

__all__ = ["sql"]


def sql(
    query: Annotated[str, typer.Argument(metavar="SQL", help="For example: SELECT count() FROM usage")],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Print in this ClickHouse format: CSVWithNames, JSON, Parquet, ..."
        ),
    ] = None,
    json: Json = False,
    clickhouse: ClickHouse = None,
) -> None:
    """Ask ClickHouse and print a table; --format and --json print what ClickHouse sends, byte by byte."""
    from tokentide.console.settings import ConsoleSettings
    from tokentide.sinks.clients import connect, translated

    settings = ConsoleSettings.from_env(clickhouse_url=clickhouse).clickhouse
    client = connect(settings)
    with translated(settings, "answer"):
        if json or format:
            stream = client.raw_query(query, fmt=format or "JSON")
            sys.stdout.buffer.write(stream)
            sys.stdout.buffer.flush()
            return
        answer = client.query(query)
    _print_table(list(answer.column_names), list(answer.result_rows))


def _print_table(names: list[str], rows: list[tuple[object, ...]]) -> None:
    from decimal import Decimal

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for index, name in enumerate(names):
        is_number = bool(rows) and isinstance(rows[0][index], int | float | Decimal)
        table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console()
    console.print(table)
    console.print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


def _cell(value: object) -> str:
    from decimal import Decimal

    if value is None:
        return "-"
    # A bill shows 0.00000015, never 1.5E-7.
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
