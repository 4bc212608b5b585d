"""Bringing a ClickHouse database to the schema that this version needs."""

from pathlib import Path
from typing import Any

from clickhouse_connect.driver.binding import quote_identifier
from clickhouse_migrations.connection import (  # type: ignore[import-untyped]
    ClickhouseConnectConnection,
)
from clickhouse_migrations.exceptions import MigrationException  # type: ignore[import-untyped]
from clickhouse_migrations.migration import Migration, MigrationStorage  # type: ignore[import-untyped]
from clickhouse_migrations.migrator import (  # type: ignore[import-untyped]
    MIGRATION_LOG_FORMAT_COMPACT,
    Migrator,
)

from tokentide.schemas import StorageRefusedError
from tokentide.sinks.clients import connect, translated
from tokentide.sinks.failures import CLIENT_ERRORS, translate
from tokentide.sinks.settings import ClickHouseSettings

__all__ = ["MIGRATIONS", "migrate"]

MIGRATIONS = Path(__file__).parent / "migrations"
"""The numbered .sql files. An applied file is frozen: a change is a new number."""


def migrate(settings: ClickHouseSettings, folder: Path = MIGRATIONS) -> list[str]:
    """Create the database when it is missing, apply every new file, and return the names of those.

    Safe to run again, and by several workers at once: each statement says IF NOT EXISTS, and a file that two
    workers applied is noted twice and counts once. A file that failed is applied from its start next time.
    Raises ServiceUnavailableError, and StorageRefusedError that names the file.
    """
    _create_database(settings)
    storage = MigrationStorage(folder)
    names = storage.migration_filenames()
    with _Recording(connect(settings)) as connection:
        migrator = Migrator(connection, migration_log_format=MIGRATION_LOG_FORMAT_COMPACT)
        with translated(settings, "note its migrations"):
            migrator.init_schema()
        pending = _pending(migrator, storage.migrations(), settings)
        try:
            migrator.apply_migration(storage.migrations(), multi_statement=True)
        except CLIENT_ERRORS as error:
            failed = next(names[each.version] for each in pending if each.version not in connection.done)
            raise translate(error, settings, f"apply {failed}", "mend that file and migrate again") from error
        return [names[version] for version in connection.done]


class _Recording(ClickhouseConnectConnection):  # type: ignore[misc]
    """Remembers which versions were noted as applied through it: that is what the migrator inserts."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.done: list[int] = []

    def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        super().insert(table, rows)
        self.done.extend(row["version"] for row in rows)


def _pending(
    migrator: Migrator, migrations: list[Migration], settings: ClickHouseSettings
) -> list[Migration]:
    """The migrations that are not noted as applied, in order."""
    try:
        with translated(settings, "read its migrations"):
            pending: list[Migration] = migrator.migrations_to_apply(migrations)
    except MigrationException as error:
        raise StorageRefusedError(
            f"database {settings.database} at {settings.url} does not fit this version of tokentide "
            f"({str(error).rstrip('. ')}): start the version that migrated it, or a newer one"
        ) from error
    return pending


def _create_database(settings: ClickHouseSettings) -> None:
    """Create it only when it is missing, for a user who may not create databases can still migrate one."""
    name = quote_identifier(settings.database)
    client = connect(settings, database="")
    try:
        with translated(settings, f"create database {settings.database}"):
            if not client.command(f"EXISTS DATABASE {name}"):
                client.command(f"CREATE DATABASE IF NOT EXISTS {name} ENGINE = Atomic")
    finally:
        client.close()
