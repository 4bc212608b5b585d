"""The limit: what Python does by hand, with nothing that a meter needs besides the sums.

librdkafka's `consume` gives many messages at once, one msgspec decoder reads every field of each, and from there on
all work is on Arrow columns: the price, the sums for each user and team (then added to two dicts), and the insert of
20,000 rows or more at a time, as one Arrow stream without compression.

Guarantees: none. Offsets are committed by a timer, whether the rows are written or not, and the totals are lost
with the process. No event is checked, or counted once when it comes twice.
"""

import gc
from collections import Counter
from datetime import date
from operator import attrgetter

import clickhouse_connect
import contract
import msgspec
import pyarrow
import pyarrow.compute as pc
from confluent_kafka import Consumer
from usage import Usage

CHUNK = 2_000
BATCH = 20_000
MODELS = pyarrow.array(list(contract.PRICES))
PER_INPUT, PER_OUTPUT, PER_READ = map(pyarrow.array, zip(*contract.PRICES.values(), strict=True))
COLUMNS = contract.ROW_COLUMNS[:-1]
Totals = Counter[tuple[str, str, date]]

decode = msgspec.json.Decoder(Usage).decode
values = attrgetter(*COLUMNS)


def main() -> None:
    """Read to the end, write, and stop."""
    consumer = Consumer(
        {
            "bootstrap.servers": contract.BROKER,
            "group.id": "handwritten",
            "auto.offset.reset": "earliest",
            "fetch.min.bytes": 100_000,
        }
    )
    consumer.subscribe([contract.TOPIC])
    clickhouse = clickhouse_connect.get_client(dsn=contract.CLICKHOUSE, compress=False)
    requests: Totals = Counter()
    costs: Totals = Counter()
    chunks: list[pyarrow.Table] = []
    gc.freeze()
    is_last = False
    while not is_last:
        messages = consumer.consume(CHUNK, timeout=0.2)
        if messages:
            events = [decode(message.value()) for message in messages]
            columns = zip(*map(values, events), strict=True)
            chunks.append(pyarrow.table(list(map(pyarrow.array, columns)), COLUMNS))
            is_last = contract.taken(len(messages))
        if is_last or sum(map(len, chunks)) >= BATCH:
            rows = priced(pyarrow.concat_tables(chunks).combine_chunks())
            chunks.clear()
            add("user", rows, requests, costs)
            add("team", rows, requests, costs)
            clickhouse.insert_arrow(contract.ROWS, rows)
    totals = [
        (scope, scope_id, day, requests[scope, scope_id, day], cost)
        for (scope, scope_id, day), cost in costs.items()
    ]
    clickhouse.insert(contract.TOTALS, totals, contract.TOTAL_COLUMNS)
    contract.done()
    consumer.close()


def priced(events: pyarrow.Table) -> pyarrow.Table:
    """Return the rows of these events; as `contract.cost`, in columns."""
    model = pc.index_in(events["model"], MODELS)
    read = events["cache_read_tokens"]
    fresh = pc.subtract(events["input_tokens"], read)
    inputs = pc.add(pc.multiply(fresh, PER_INPUT.take(model)), pc.multiply(read, PER_READ.take(model)))
    cost = pc.add(inputs, pc.multiply(events["output_tokens"], PER_OUTPUT.take(model)))
    moments = events["timestamp"].cast(pyarrow.timestamp("us", "UTC"))
    return events.set_column(1, "timestamp", moments).append_column("cost_pico_usd", cost)


def add(scope: str, rows: pyarrow.Table, requests: Totals, costs: Totals) -> None:
    """Add these rows to the totals of their users or teams."""
    days = rows["timestamp"].cast(pyarrow.date32())
    groups = rows.append_column("day", days).group_by([f"{scope}_id", "day"], use_threads=False)
    sums = groups.aggregate([("cost_pico_usd", "count"), ("cost_pico_usd", "sum")])
    for scope_id, day, count, cost in zip(*(column.to_pylist() for column in sums.columns), strict=True):
        requests[scope, scope_id, day] += count
        costs[scope, scope_id, day] += cost


if __name__ == "__main__":
    main()
