"""Bringing a database to this version's schema, again, at once with others, and not backwards."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.databases import make_database, statements_of

from tokentide.schemas import ServiceUnavailableError, StorageRefusedError
from tokentide.sinks import MIGRATIONS, ClickHouseSettings, connect, migrate

FILES = sorted(path.name for path in MIGRATIONS.glob("*.sql"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the migrations, to be changed."""
    return Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))


@pytest.fixture
def settings(empty: ClickHouseSettings) -> ClickHouseSettings:
    """Settings that name a database that was migrated, not made after the model of one."""
    migrate(empty)
    return empty


def select(settings: ClickHouseSettings, sql: str) -> Sequence[Sequence[Any]]:
    """The rows of a query."""
    client = connect(settings)
    try:
        return client.query(sql).result_rows
    finally:
        client.close()


def tables(settings: ClickHouseSettings) -> set[str]:
    """The tables and views of the database."""
    return {row[0] for row in select(settings, "SHOW TABLES")}


def test_a_new_database_gets_every_file_and_what_people_query(empty: ClickHouseSettings) -> None:
    applied = migrate(empty)

    assert applied == FILES
    assert tables(empty) >= {
        *("usage", "spend_by_user", "spend_by_team", "spend_by_model", "spend_daily", "alerts"),
        *("usage_events", "spend_totals", "alert_events", "rejected_events"),
    }


def test_a_database_after_the_model_of_a_migrated_one_is_like_it(
    empty: ClickHouseSettings, settings: ClickHouseSettings
) -> None:
    copy = replace(empty, database=f"{empty.database}_copy")

    make_database(copy)

    renamed = [each.replace(f"{copy.database}.", f"{settings.database}.") for each in statements_of(copy)]
    assert renamed == statements_of(settings)
    assert migrate(copy) == []


def test_migrating_again_applies_nothing(settings: ClickHouseSettings) -> None:
    assert migrate(settings) == []


def test_rows_survive_a_migration_that_adds_a_file(settings: ClickHouseSettings, folder: Path) -> None:
    client = connect(settings)
    client.command("INSERT INTO alert_events (alert_id) VALUES ('a')")
    client.close()
    (folder / "0099_notes.sql").write_text(
        "CREATE TABLE IF NOT EXISTS notes (a Int8) ENGINE = MergeTree ORDER BY a"
    )

    applied = migrate(settings, folder)

    assert applied == ["0099_notes.sql"]
    assert select(settings, "SELECT alert_id FROM alerts") == [("a",)]


def test_several_processes_may_migrate_at_once(empty: ClickHouseSettings) -> None:
    program = (
        "import sys; from tokentide.sinks import ClickHouseSettings, migrate; print(flush=True); "
        "sys.stdin.readline(); migrate(ClickHouseSettings(url=sys.argv[1], database=sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, empty.url, empty.database]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(3)]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()

    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    ends = [(worker.communicate(timeout=60)[1], worker.returncode) for worker in workers]

    assert ends == [("", 0)] * 3
    assert migrate(empty) == []


def test_a_file_with_an_unknown_column_is_named_with_what_clickhouse_says(
    empty: ClickHouseSettings, folder: Path
) -> None:
    (folder / "0098_wrong.sql").write_text(
        "CREATE VIEW IF NOT EXISTS wrong AS SELECT carbon_grams FROM usage_events"
    )

    with pytest.raises(StorageRefusedError) as failure:
        migrate(empty, folder)

    assert "refused to apply 0098_wrong.sql" in str(failure.value)
    assert "carbon_grams" in str(failure.value)
    assert "mend that file and migrate again" in str(failure.value)


def test_a_failed_file_is_applied_from_its_start_once_it_is_mended(
    empty: ClickHouseSettings, folder: Path
) -> None:
    half = "CREATE TABLE IF NOT EXISTS half (a Int8) ENGINE = MergeTree ORDER BY a;\n"
    (folder / "0098_two.sql").write_text(half + "CREATE VIEW IF NOT EXISTS two AS SELECT b FROM half")
    with pytest.raises(StorageRefusedError, match=r"0098_two\.sql"):
        migrate(empty, folder)

    (folder / "0098_two.sql").write_text(half + "CREATE VIEW IF NOT EXISTS two AS SELECT a FROM half")
    applied = migrate(empty, folder)

    assert applied == ["0098_two.sql"]
    assert {"half", "two"} <= tables(empty)


def test_a_database_of_a_newer_version_is_refused(settings: ClickHouseSettings, folder: Path) -> None:
    (folder / "0098_newer.sql").write_text("CREATE TABLE newer (a Int8) ENGINE = MergeTree ORDER BY a")
    migrate(settings, folder)

    with pytest.raises(StorageRefusedError) as failure:
        migrate(settings)

    assert settings.database in str(failure.value)
    assert "does not fit this version of tokentide" in str(failure.value)
    assert "start the version that migrated it, or a newer one" in str(failure.value)


def test_an_applied_file_that_was_edited_is_refused(settings: ClickHouseSettings, folder: Path) -> None:
    edited = folder / FILES[0]
    edited.write_text(edited.read_text() + "\n-- changed")

    with pytest.raises(StorageRefusedError, match=r"does not fit this version.*version is 1"):
        migrate(settings, folder)


def test_a_server_that_is_not_there_is_said_with_what_to_do() -> None:
    nowhere = ClickHouseSettings(url="http://127.0.0.1:1")

    with pytest.raises(ServiceUnavailableError) as failure:
        migrate(nowhere)

    assert str(failure.value) == (
        "ClickHouse at http://127.0.0.1:1 does not answer (Connection refused): start it, or set "
        "TOKENTIDE_CLICKHOUSE_URL"
    )


def test_every_statement_may_run_again_over_its_own_work(settings: ClickHouseSettings) -> None:
    client = connect(settings)
    client.command("INSERT INTO alert_events (alert_id) VALUES ('a')")
    client.command("DROP TABLE schema_versions")
    client.close()

    applied = migrate(settings)

    assert applied == FILES
    assert select(settings, "SELECT alert_id FROM alerts") == [("a",)]


def test_rejections_of_before_rows_were_rejected_stay_and_their_file_may_be_applied_again(
    empty: ClickHouseSettings, folder: Path
) -> None:
    newest = folder / "0006_rejected_rows.sql"
    statements = newest.read_text()
    newest.unlink()
    migrate(empty, folder)
    client = connect(empty)
    client.command("INSERT INTO rejected_events (source_topic, source_offset) VALUES ('usage.events', 7)")
    client.close()

    migrate(empty)
    # As when two workers apply it, or one that died before it could note that it did.
    (folder / "0006_rejected_rows.sql").write_text(statements)
    (folder / "0099_once_more.sql").write_text(statements)
    migrate(empty, folder)

    assert select(empty, "SELECT source_topic, source_offset, source_row FROM rejected") == [
        ("usage.events", 7, 0)
    ]


def test_totals_of_before_adjustments_stay_and_their_file_may_be_applied_again(
    empty: ClickHouseSettings, folder: Path
) -> None:
    newest = folder / "0007_watermarks_and_adjustments.sql"
    statements = newest.read_text()
    newest.unlink()
    migrate(empty, folder)
    client = connect(empty)
    # Two parts, and an old version of a partial in one of them.
    for version, step in ((5, 1), (4, 2)):
        client.command(
            "INSERT INTO spend_totals (scope, scope_id, period, period_start, source_partition, version, requests, "
            "input_tokens, output_tokens, cost_usd, unpriced_requests) "
            f"SELECT 'user', concat('user-', toString(number)), 'day', toDateTime(1793145600, 'UTC'), number % 4, "
            f"{version}, number, number * 3, 9223372036854775807, toDecimal128('0.000000000001', 12) * number, 1 "
            f"FROM numbers(0, 5000, {step})"
        )
    client.command("INSERT INTO usage_events (event_id, timestamp) VALUES ('e', '2026-10-28 00:00:00')")
    client.command("INSERT INTO alert_events (alert_id) VALUES ('a')")
    client.close()
    columns = (
        "user_id, period, period_start, requests, input_tokens, output_tokens, cost_usd, unpriced_requests"
    )
    totals = f"SELECT {columns} FROM spend_by_user ORDER BY user_id"
    before = select(empty, totals)

    migrate(empty)
    # As when two workers apply it, or one that died before it could note that it did.
    (folder / newest.name).write_text(statements)
    (folder / "0099_once_more.sql").write_text(statements)
    migrate(empty, folder)

    assert len(before) == 5000
    assert select(empty, totals) == before
    client = connect(empty)
    client.command(
        "INSERT INTO spend_totals (scope, scope_id, period, period_start, source_partition, adjustment, version, "
        "requests) VALUES ('user', 'user-4', 'day', 1793145600, 0, 'audit', 1, -3)"
    )
    client.command("OPTIMIZE TABLE spend_totals FINAL")
    client.close()
    assert select(empty, "SELECT requests FROM spend_by_user WHERE user_id = 'user-4'") == [(1,)]
    assert select(empty, "SELECT event_id, late FROM usage") == [("e", 0)]
    assert select(empty, "SELECT alert_id, complete_up_to FROM alerts") == [("a", None)]
