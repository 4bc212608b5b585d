"""`tokentide audit`: is every total exact?"""

import typer

from tokentide.console.commands.options import Broker, ClickHouse, Json

__all__ = ["audit"]


def audit(broker: Broker = None, clickhouse: ClickHouse = None, json: Json = False) -> None:
    """Compare Kafka, the meter's state and ClickHouse to the token and the pico-dollar; exit code 1 when unequal."""
    raise typer.Exit(1)
