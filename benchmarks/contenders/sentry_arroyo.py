"""sentry-arroyo, which feeds ClickHouse at Sentry (snuba): its Kafka consumer, and a chain of strategies.

`RunTask` reads an event with msgspec and prices it, `Reduce` gathers 20,000 rows or those of a second, another
`RunTask` posts them as lines of JSON, as snuba does, and `CommitOffsets` commits once a second. Arroyo has no state
of its own: the totals are two dicts, written at the end.

Guarantees: at-least-once for the rows, for an offset is committed after its row is in ClickHouse. The totals are lost
with the process.
"""

import logging
from collections.abc import Mapping
from datetime import date

import clickhouse_connect
import contract
import msgspec
from arroyo.backends.kafka import KafkaConsumer, KafkaPayload
from arroyo.backends.kafka.configuration import build_kafka_consumer_configuration
from arroyo.commit import ONCE_PER_SECOND
from arroyo.processing.processor import StreamProcessor
from arroyo.processing.strategies import CommitOffsets, ProcessingStrategyFactory, Reduce, RunTask
from arroyo.processing.strategies.abstract import ProcessingStrategy
from arroyo.types import BaseValue, Commit, Message, Partition, Topic
from usage import Usage

BATCH = 20_000
SECONDS = 1.0

Total = list[int]
Totals = dict[tuple[str, str], Total]


Row = tuple[str, str, str, str, str, str, str, int, int, int, int]
decode = msgspec.json.Decoder(Usage).decode
encode_lines = msgspec.json.Encoder().encode_lines
clickhouse = clickhouse_connect.get_client(dsn=contract.CLICKHOUSE)
users: Totals = {}
teams: Totals = {}


def main() -> None:
    """Run until every event is written, then write the totals."""
    logging.basicConfig(level=logging.WARNING)
    configuration = build_kafka_consumer_configuration(
        {}, bootstrap_servers=[contract.BROKER], group_id="sentry-arroyo", auto_offset_reset="earliest"
    )
    consumer = KafkaConsumer(configuration)
    strategies = Strategies()
    processor = StreamProcessor(consumer, Topic(contract.TOPIC), strategies, ONCE_PER_SECOND, join_timeout=10)
    strategies.stop = processor.signal_shutdown
    processor.run()
    rows = [
        (scope, scope_id, date.fromisoformat(day), requests, cost)
        for scope, totals in (("user", users), ("team", teams))
        for (scope_id, day), (requests, cost) in totals.items()
    ]
    clickhouse.insert(contract.TOTALS, rows, contract.TOTAL_COLUMNS)
    contract.done()


def price(message: Message[KafkaPayload]) -> Row:
    """Return the row of one message, and add its cost to the totals."""
    event = decode(message.payload.value)
    cost = contract.cost(event.model, event.input_tokens, event.output_tokens, event.cache_read_tokens)
    day = event.timestamp[:10]
    add(users, (event.user_id, day), cost)
    add(teams, (event.team_id, day), cost)
    contract.taken()
    return (
        event.event_id,
        event.timestamp,
        event.user_id,
        event.team_id,
        event.provider,
        event.model,
        event.operation,
        event.input_tokens,
        event.output_tokens,
        event.cache_read_tokens,
        cost,
    )


def add(totals: Totals, key: tuple[str, str], cost: int) -> None:
    """Count one event in one total."""
    total = totals.get(key)
    if total is None:
        totals[key] = [1, cost]
    else:
        total[0] += 1
        total[1] += cost


def gather(rows: list[Row], row: BaseValue[Row]) -> list[Row]:
    """Add one row to a batch."""
    rows.append(row.payload)
    return rows


def insert(message: Message[list[Row]]) -> int:
    """Insert a batch; return how many rows it had."""
    rows = message.payload
    clickhouse.raw_insert(
        contract.ROWS,
        contract.ROW_COLUMNS,
        encode_lines(rows),
        settings={"date_time_input_format": "best_effort"},
        fmt="JSONCompactEachRow",
    )
    return len(rows)


class Strategies(ProcessingStrategyFactory[KafkaPayload]):
    """Builds the chain for the partitions that this consumer was given."""

    def __init__(self) -> None:
        self.written = 0
        self.stop = lambda: None

    def create_with_partitions(
        self, commit: Commit, partitions: Mapping[Partition, int]
    ) -> ProcessingStrategy[KafkaPayload]:
        written = RunTask(self.count, CommitOffsets(commit))
        return RunTask(price, Reduce(BATCH, SECONDS, gather, list, RunTask(insert, written)))

    def count(self, message: Message[int]) -> int:
        """Stop after the last row."""
        self.written += message.payload
        if self.written >= contract.EVENTS:
            self.stop()
        return message.payload


if __name__ == "__main__":
    main()
