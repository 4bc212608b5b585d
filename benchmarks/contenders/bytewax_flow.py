"""Bytewax 0.21: a Python dataflow on a Rust engine, one worker.

A batch goes through one call that parses and prices it (`flat_map_batch`), and is one insert: 1,000 messages of each
partition, the source's default, which its manual recommends for throughput. A second call adds up what each user and
team has in the batch, so that the keyed state sees one item a key and batch, not one an event. The totals are written
when the topic ends.

The guarantee is at-least-once: offsets and totals are snapshots in SQLite, one for each epoch of 10 s, from which a
restarted flow goes on. Rows since the last snapshot are then written twice, totals are not.
"""

from collections.abc import Iterable
from typing import Any

import bytewax.operators as op
import clickhouse_connect
import contract
import msgspec
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

Total = tuple[int, int]


class Usage(msgspec.Struct):
    """The fields of an event that are needed; a count that is missing is 0."""

    event_id: str
    timestamp: str
    user_id: str
    team_id: str
    provider: str
    model: str
    operation: str
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0


decode = msgspec.json.Decoder(Usage).decode


class Inserts(StatelessSinkPartition[Any]):
    """Writes each batch that arrives with one insert."""

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        self._client = clickhouse_connect.get_client(dsn=contract.CLICKHOUSE)
        self._encoder = msgspec.json.Encoder()
        self._table, self._columns = table, columns

    def write_batch(self, items: list[Any]) -> None:
        self._client.raw_insert(
            self._table,
            self._columns,
            self._encoder.encode_lines(items),
            fmt="JSONCompactEachRow",
            settings={"date_time_input_format": "best_effort"},
        )

    def close(self) -> None:
        self._client.close()


class ClickHouse(DynamicSink[Any]):
    """A table; an item is a tuple with a value for each column."""

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        self._table, self._columns = table, columns

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Inserts:
        return Inserts(self._table, self._columns)


def price(messages: list[KafkaSourceMessage[bytes, bytes]]) -> list[tuple[Any, ...]]:
    """Return a row for each event."""
    rows = []
    for message in messages:
        usage = decode(message.value)
        cost = contract.cost(usage.model, usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)
        rows.append((*msgspec.structs.astuple(usage), cost))
    contract.taken(len(rows))
    return rows


def sums(rows: list[tuple[Any, ...]]) -> Iterable[tuple[str, Total]]:
    """Return what each user and team has in these rows, under a key of scope, id and day."""
    found: dict[str, Total] = {}
    for _, timestamp, user, team, *_, cost in rows:
        day = timestamp[:10]
        for key in (f"user\t{user}\t{day}", f"team\t{team}\t{day}"):
            requests, spent = found.get(key, (0, 0))
            found[key] = requests + 1, spent + cost
    return found.items()


def add(one: Total, other: Total) -> Total:
    """Return the sum of two totals."""
    return one[0] + other[0], one[1] + other[1]


def flow() -> Dataflow:
    """Return the topic's way to the two tables."""
    dataflow = Dataflow("bench")
    source = KafkaSource([contract.BROKER], [contract.TOPIC], tail=False)
    rows = op.flat_map_batch("price", op.input("topic", dataflow, source), price)
    op.output("rows", rows, ClickHouse(contract.ROWS, contract.ROW_COLUMNS))
    totals = op.reduce_final("total", op.flat_map_batch("sums", rows, sums), add)
    lines = op.map("line", totals, lambda total: (*total[0].split("\t"), *total[1]))
    op.output("totals", lines, ClickHouse(contract.TOTALS, contract.TOTAL_COLUMNS))
    return dataflow


def main() -> None:
    """Run until the topic ends."""
    snapshots = contract.FOLDER / "snapshots"
    snapshots.mkdir()
    init_db_dir(snapshots, 1)
    cli_main(flow(), recovery_config=RecoveryConfig(snapshots))
    contract.done()


if __name__ == "__main__":
    main()
