"""Pathway 0.33: tables in Python, computed by a differential dataflow in Rust, one worker.

The engine reads, parses, prices and adds up; only rows on their way out meet Python (`pw.io.subscribe`), which
inserts 10,000 at a time. Pathway's own writer for ClickHouse speaks the native protocol and adds columns of its own
to the table, so it does not fit here. `static` ends with the topic; else it computes what `streaming` computes.

As configured nothing is durable: after a crash the whole topic is read again, and its rows are written twice.
"""

from typing import Any

import clickhouse_connect
import contract
import msgspec
import pathway as pw

BATCH = 10_000
AUTOCOMMIT_MS = 1_000


class Usage(pw.Schema):
    """The fields of an event that are needed; a count that is missing is 0."""

    event_id: str
    timestamp: str
    user_id: str
    team_id: str
    provider: str
    model: str
    operation: str
    input_tokens: int = pw.column_definition(default_value=0)
    output_tokens: int = pw.column_definition(default_value=0)
    cache_read_tokens: int = pw.column_definition(default_value=0)


class Inserts:
    """Rows on their way into one table."""

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        self._client = clickhouse_connect.get_client(dsn=contract.CLICKHOUSE)
        self._table, self._columns = table, columns
        self._rows: list[tuple[Any, ...]] = []

    def add(self, row: tuple[Any, ...]) -> None:
        """Write this row, later."""
        self._rows.append(row)
        if len(self._rows) == BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._rows:
            self._client.raw_insert(
                self._table,
                self._columns,
                msgspec.json.Encoder().encode_lines(self._rows),
                fmt="JSONCompactEachRow",
                settings={"date_time_input_format": "best_effort"},
            )
            self._rows.clear()


def cost(usage: pw.Table) -> pw.ColumnExpression:
    """Return the expression for `contract.cost`, so that the engine computes it."""
    expression: Any = 0
    for model, (per_input, per_output, per_read) in contract.PRICES.items():
        fresh = usage.input_tokens - usage.cache_read_tokens
        price = fresh * per_input + usage.cache_read_tokens * per_read + usage.output_tokens * per_output
        expression = pw.if_else(usage.model == model, price, expression)
    return expression


def main() -> None:
    """Run until the topic ends."""
    usage = pw.io.kafka.read(
        {"bootstrap.servers": contract.BROKER, "group.id": "bench", "auto.offset.reset": "earliest"},
        topic=contract.TOPIC,
        schema=Usage,
        format="json",
        mode="static",
        autocommit_duration_ms=AUTOCOMMIT_MS,
    )
    priced = usage.with_columns(cost_pico_usd=cost(usage))
    rows = Inserts(contract.ROWS, contract.ROW_COLUMNS)
    totals = Inserts(contract.TOTALS, contract.TOTAL_COLUMNS)

    def add_row(key: pw.Pointer, row: dict[str, Any], time: int, is_addition: bool) -> None:
        rows.add(tuple(row.values()))
        contract.taken()

    pw.io.subscribe(priced, add_row, on_end=rows.flush)
    dated = priced.with_columns(day=priced.timestamp.str.slice(0, 10))
    for scope in ("user", "team"):
        subscribe_totals(scope, dated, totals)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    totals.flush()
    contract.done()


def subscribe_totals(scope: str, dated: pw.Table, totals: Inserts) -> None:
    """Keep the newest total of each user or team and day, and add all to `totals` at the end."""
    owner = dated[f"{scope}_id"]
    sums = dated.groupby(owner, dated.day).reduce(
        owner=owner, day=dated.day, requests=pw.reducers.count(), cost=pw.reducers.sum(dated.cost_pico_usd)
    )
    newest: dict[pw.Pointer, tuple[Any, ...]] = {}

    def keep(key: pw.Pointer, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if is_addition:
            newest[key] = (scope, *row.values())

    def write() -> None:
        for total in newest.values():
            totals.add(total)

    pw.io.subscribe(sums, keep, on_end=write)


if __name__ == "__main__":
    main()
