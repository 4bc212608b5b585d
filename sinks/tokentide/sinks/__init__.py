"""The way into ClickHouse: schema, decoders of our topics, batches, and inserts that count once.

Needs the extra `pipeline`. `tokentide.sinks.embedded`, a ClickHouse for laptops, needs the extra `embedded`.
"""

from typing import TYPE_CHECKING

from tokentide.schemas.later import later
from tokentide.sinks.settings import BatchSettings, ClickHouseSettings, SinkSettings

if TYPE_CHECKING:
    from tokentide.sinks.alerts import ALERTS
    from tokentide.sinks.batch import Batch, Batcher, token
    from tokentide.sinks.clients import Clients, connect, translated
    from tokentide.sinks.dead_letters import DeadLetters, Refuse
    from tokentide.sinks.failures import RowRefusedError, translate
    from tokentide.sinks.landing import Landing, Record
    from tokentide.sinks.migration import MIGRATIONS, migrate
    from tokentide.sinks.rejected import REJECTED
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

# Imported when first asked for: who only reads settings, such as a meter, starts without a ClickHouse client.
_LATER = {
    "alerts": ("ALERTS",),
    "batch": ("Batch", "Batcher", "token"),
    "clients": ("Clients", "connect", "translated"),
    "dead_letters": ("DeadLetters", "Refuse"),
    "failures": ("RowRefusedError", "translate"),
    "landing": ("Landing", "Record"),
    "migration": ("MIGRATIONS", "migrate"),
    "rejected": ("REJECTED",),
    "sink": ("Sink", "sink_stages"),
    "spend": ("SPEND",),
    "usage": ("USAGE",),
    "writer": ("ClickHouseWriter",),
}
if not TYPE_CHECKING:
    __getattr__ = later(__name__, _LATER)
