"""Records of `usage.priced`, made as the meter makes them."""

import json
from datetime import UTC, datetime

from tokentide.schemas.chunk import Chunk, Record
from tokentide.schemas.columns import write_chunk
from tokentide.streams.clock import EventClock
from tokentide.streams.coverage import Trace, coverage_headers
from tokentide.streams.prices import Catalogue
from tokentide.streams.pricing import price_chunk
from tokentide.streams.seen import SeenIds

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def priced(offset: int, first: int, last: int, user: str = "u-1") -> Record:
    """At an offset, with a request of the user for each of these source offsets."""
    moment = int(NOW.timestamp() * 1000)
    values = [
        {
            "event_id": f"e-{source}",
            "timestamp": NOW.isoformat(),
            "provider": "openai",
            "model": "gpt-4o",
            "input_tokens": 10,
            "output_tokens": 1,
            "user_id": user,
        }
        for source in range(first, last + 1)
    ]
    records = tuple(
        Record(first + place, moment, user.encode(), json.dumps(value).encode())
        for place, value in enumerate(values)
    )
    rows = price_chunk(Chunk("usage.events", 0, records), SeenIds(7), Catalogue(), NOW, 3600).rows
    return Record(
        offset,
        moment,
        None,
        write_chunk(rows),
        tuple(coverage_headers(first, last, Trace(0, "nonce"), EventClock())),
    )
