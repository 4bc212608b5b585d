"""What a tutorial of Faust would write: an ordinary agent, one event a step, and two tables.

Each event is read by a pydantic model, priced, and added to a table of users and a table of teams (in memory, with
a changelog each, both of 8 partitions as the topic has). Rows are inserted 100 at a time, in a thread, so that the
loop lives on; one insert an event would be slower still. At the end the totals are copied from the tables to
ClickHouse.

The topic's key is the user, so the events of a team come from every partition: its table sets `use_partitioner`,
which is right with one worker and spares the second topic of `group_by`. The changelogs are made before Faust starts:
Faust 0.15.3 makes them itself, but then its first write can fail ("has 0 partitions"), for it asks too early. And
`KeepingFlow` mends its loss of the first events, without which this program would wait for them for ever.

Guarantees: at-least-once on paper: but an event's ack does not wait for its row, an exception acks its event, and
what is replayed after a crash is counted twice.
"""

import asyncio
import os
import signal
from datetime import UTC, date, datetime

import clickhouse_connect
import contract
import faust
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from mode.utils.queues import FlowControlEvent
from pydantic import BaseModel

ROWS = 100
PARTITIONS = 8


class Usage(BaseModel):
    """One call of a model."""

    event_id: str
    timestamp: datetime
    user_id: str
    team_id: str
    org_id: str | None = None
    session_id: str | None = None
    operation: str
    provider: str
    model: str
    request_id: str | None = None
    service: str | None = None
    environment: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    latency_ms: float | None = None
    ttft_ms: float | None = None
    finish_reason: str | None = None
    stream: bool = False
    tags: dict[str, str] = {}


class KeepingFlow(FlowControlEvent):
    """Does not throw away what was fetched, when the tables are ready and the flow was never suspended."""

    def resume(self) -> None:
        was_suspended = not self.is_active()
        self._suspend.clear()
        self._resume.set()
        if was_suspended:
            self.clear()


app = faust.App(
    "naive-faust",
    broker=f"kafka://{contract.BROKER}",
    store="memory://",
    topic_partitions=PARTITIONS,
    datadir=str(contract.FOLDER / "faust"),
    web_enabled=False,
)
app.__dict__["flow_control"] = KeepingFlow(loop=app.loop)  # a cached property, before a topic uses it
usage = app.topic(contract.TOPIC, value_serializer="raw")
users = app.Table("users", default=lambda: [0, 0], partitions=PARTITIONS)
teams = app.Table("teams", default=lambda: [0, 0], partitions=PARTITIONS, use_partitioner=True)
clickhouse = clickhouse_connect.get_client(dsn=contract.CLICKHOUSE)


@app.agent(usage)
async def meter(stream: faust.Stream[bytes]) -> None:
    """Price the events one by one, and insert their rows in lists."""
    rows = []
    async for value in stream:
        event = Usage.model_validate_json(value)
        cost = contract.cost(event.model, event.input_tokens, event.output_tokens, event.cache_read_tokens)
        day = event.timestamp.astimezone(UTC).date().isoformat()
        add(users, f"{event.user_id}|{day}", cost)
        add(teams, f"{event.team_id}|{day}", cost)
        rows.append((*(getattr(event, name) for name in contract.ROW_COLUMNS[:-1]), cost))
        is_last = contract.taken()
        if is_last or len(rows) == ROWS:
            await asyncio.to_thread(clickhouse.insert, contract.ROWS, rows, contract.ROW_COLUMNS)
            rows = []
        if is_last:
            finish()


def add(table: faust.Table, key: str, cost: int) -> None:
    """Count one event in one total."""
    requests, sum_of_costs = table[key]
    table[key] = [requests + 1, sum_of_costs + cost]


def finish() -> None:
    """Copy the tables to ClickHouse, and ask the worker to stop."""
    totals = []
    for scope, table in (("user", users), ("team", teams)):
        for key, (requests, cost) in table.items():
            scope_id, day = key.split("|")
            totals.append((scope, scope_id, date.fromisoformat(day), requests, cost))
    clickhouse.insert(contract.TOTALS, totals, contract.TOTAL_COLUMNS)
    contract.done()
    os.kill(os.getpid(), signal.SIGTERM)


async def make_changelogs() -> None:
    """Make the topics of the tables."""
    admin = AIOKafkaAdminClient(bootstrap_servers=contract.BROKER)
    await admin.start()
    await admin.create_topics(
        [
            NewTopic(table.changelog_topic_name, PARTITIONS, 1, topic_configs={"cleanup.policy": "compact"})
            for table in (users, teams)
        ]
    )
    await admin.close()


if __name__ == "__main__":
    asyncio.run(make_changelogs())
    faust.Worker(app, loglevel="ERROR", quiet=True).execute_from_commandline()
