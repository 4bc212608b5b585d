"""Quix Streams: a StreamingDataFrame with state in RocksDB, `group_by`, and sinks that write at each checkpoint.

The topic's key is the user, so the totals of users are kept as the events come. For the totals of teams `group_by`
sends three fields of each event through a topic of its own, keyed by the team. Each change of state goes to RocksDB
and to a changelog topic. JSON is read by orjson, as the library does, and no model checks it. Rows and the newest
totals are inserted at a checkpoint, every 50,000 messages or five seconds (its default), a batch for each partition.

Guarantees, as configured: at-least-once for rows and totals, and a state that survives the process. A crash between
the writing of a changelog and the commit can count an event twice.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

import clickhouse_connect
import contract
from quixstreams import Application, State
from quixstreams.sinks import BatchingSink, SinkBatch

CHECKPOINT = 50_000
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens")

Event = dict[str, Any]
Total = tuple[str, str, int, int]

app = Application(
    broker_address=contract.BROKER,
    consumer_group="quix-streams",
    auto_offset_reset="earliest",
    commit_every=CHECKPOINT,
    state_dir=contract.FOLDER / "quix",
    producer_extra_config={"linger.ms": 50, "compression.type": "lz4"},
    loglevel="WARNING",
)
clickhouse = clickhouse_connect.get_client(dsn=contract.CLICKHOUSE)
teams_left = contract.EVENTS


def main() -> None:
    """Run until the last event has come back from the topic of teams, and its checkpoint is written."""
    events = app.topic(contract.TOPIC, key_deserializer="str", value_deserializer="json")
    users = app.dataframe(events).update(price).update(count, stateful=True)
    users.sink(Spend())
    teams = users[["team_id", "day", "cost_pico_usd"]].group_by(
        "team_id", key_serializer="str", key_deserializer="str"
    )
    teams.update(count, stateful=True).update(stop_after_the_last).sink(TeamTotals())
    app.run()
    contract.done()


def price(event: Event) -> None:
    """Add what the call cost, and on which day it was."""
    for name in COUNTS:
        event.setdefault(name, 0)
    event["cost_pico_usd"] = contract.cost(event["model"], *(event[name] for name in COUNTS))
    event["day"] = event["timestamp"][:10]
    contract.taken()


def count(event: Event, state: State) -> None:
    """Add the event to the total of its key and day, and the total to the event."""
    requests, cost = state.get(event["day"], (0, 0))
    event["total"] = requests + 1, cost + event["cost_pico_usd"]
    state.set(event["day"], event["total"])


def stop_after_the_last(_event: Event) -> None:
    """Stop when the topic of teams has given every event; the last checkpoint is written on the way out."""
    global teams_left
    teams_left -= 1
    if not teams_left:
        app.stop()


class Spend(BatchingSink):
    """Writes the rows, and the totals of their users."""

    def write(self, batch: SinkBatch) -> None:
        events = [item.value for item in batch]
        columns = [[event[name] for event in events] for name in contract.ROW_COLUMNS]
        moments = contract.ROW_COLUMNS.index("timestamp")
        columns[moments] = [datetime.fromisoformat(moment) for moment in columns[moments]]
        clickhouse.insert(contract.ROWS, columns, contract.ROW_COLUMNS, column_oriented=True)
        write_totals("user", ((event["user_id"], event["day"], *event["total"]) for event in events))


class TeamTotals(BatchingSink):
    """Writes the totals of teams."""

    def write(self, batch: SinkBatch) -> None:
        events = (item.value for item in batch)
        write_totals("team", ((event["team_id"], event["day"], *event["total"]) for event in events))


def write_totals(scope: str, totals: Iterable[Total]) -> None:
    """Write the newest total of each key and day."""
    newest = {(scope_id, day): (requests, cost) for scope_id, day, requests, cost in totals}
    rows = [(scope, scope_id, date.fromisoformat(day), *total) for (scope_id, day), total in newest.items()]
    clickhouse.insert(contract.TOTALS, rows, contract.TOTAL_COLUMNS)


if __name__ == "__main__":
    main()
