"""Databases as `migrate` leaves them, without its fifty statements for each test."""

from dataclasses import replace
from functools import cache

from tokentide.sinks import ClickHouseSettings, connect, migrate

__all__ = ["make_database", "statements_of"]

_MODEL = "_migrated_"


def make_database(settings: ClickHouseSettings) -> None:
    """Make what `migrate` would make, of the statements that ClickHouse tells of a database that was migrated."""
    statements = _statements_at(replace(settings, database=_MODEL))
    client = connect(settings, database="")
    client.command(f"CREATE DATABASE {settings.database}")
    for statement in statements:
        client.command(statement.replace(f"{_MODEL}.", f"{settings.database}."))
    client.command(f"INSERT INTO {settings.database}.schema_versions SELECT * FROM {_MODEL}.schema_versions")
    client.close()


def statements_of(settings: ClickHouseSettings) -> list[str]:
    """What makes the tables and views of a database, tables first."""
    client = connect(settings)
    rows = client.query(
        "SELECT create_table_query FROM system.tables WHERE database = {name:String} ORDER BY engine = 'View', name",
        parameters={"name": settings.database},
    ).result_rows
    client.close()
    return [statement for (statement,) in rows]


@cache
def _statements_at(model: ClickHouseSettings) -> list[str]:
    """Those of the model, which is migrated once on each server."""
    migrate(model)
    return statements_of(model)
