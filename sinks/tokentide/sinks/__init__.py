"""The way into ClickHouse: schema, decoders of our topics, batches, and inserts that count once.

Needs the extra `pipeline`. `tokentide.sinks.embedded`, a ClickHouse for laptops, needs the extra `embedded`.
"""

from tokentide.sinks.alerts import ALERTS
from tokentide.sinks.batch import Batch, Batcher, token
from tokentide.sinks.clients import Clients, connect, translated
from tokentide.sinks.dead_letters import DeadLetters, Refuse
from tokentide.sinks.failures import RowRefusedError, translate
from tokentide.sinks.landing import Landing, Record
from tokentide.sinks.migration import MIGRATIONS, migrate
from tokentide.sinks.rejected import REJECTED
from tokentide.sinks.settings import BatchSettings, ClickHouseSettings, SinkSettings
from tokentide.sinks.sink import Sink, sink_stages
from tokentide.sinks.spend import SPEND
from tokentide.sinks.usage import USAGE
from tokentide.sinks.writer import ClickHouseWriter

__all__ = [
    "ALERTS",
    "MIGRATIONS",
    "REJECTED",
    "SPEND",
    "USAGE",
    "Batch",
    "BatchSettings",
    "Batcher",
    "ClickHouseSettings",
    "ClickHouseWriter",
    "Clients",
    "DeadLetters",
    "Landing",
    "Record",
    "Refuse",
    "RowRefusedError",
    "Sink",
    "SinkSettings",
    "connect",
    "migrate",
    "sink_stages",
    "token",
    "translate",
    "translated",
]
