"""The records of `usage.spend`, which are changed totals of one entity, as rows of `spend_totals`."""

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from tokentide.schemas.totals import Update, decode_update
from tokentide.sinks.landing import Landing, Record, pico_usd_column

__all__ = ["SPEND"]


def _read(record: Record) -> Update:
    update = decode_update(record.value)
    pico_usd_column([total.cost_pico_usd for total in update.totals])  # refuses what the table cannot hold
    return update


def _rows(updates: Sequence[Update]) -> pa.Table:
    pairs = [(update, total) for update in updates for total in update.totals]
    return pa.table(
        {
            "scope": pa.array([update.scope for update, _ in pairs], pa.string()).dictionary_encode(),
            "scope_id": pa.array([update.scope_id for update, _ in pairs], pa.string()),
            "period": pa.array([total.period for _, total in pairs], pa.string()).dictionary_encode(),
            "period_start": pa.array([total.period_start for _, total in pairs], pa.timestamp("s", tz="UTC")),
            "source_partition": pa.array([update.source_partition for update, _ in pairs], pa.uint32()),
            "version": pa.array([update.version for update, _ in pairs], pa.uint64()),
            "requests": pa.array([total.requests for _, total in pairs], pa.uint64()),
            "input_tokens": pa.array([total.input_tokens for _, total in pairs], pa.uint64()),
            "output_tokens": pa.array([total.output_tokens for _, total in pairs], pa.uint64()),
            "cost_usd": pico_usd_column([total.cost_pico_usd for _, total in pairs]),
            "unpriced_requests": pa.array([total.unpriced_requests for _, total in pairs], pa.uint64()),
        }
    )


def _single(update: Update, index: int) -> tuple[int, bytes]:
    alone = msgspec.structs.replace(update, totals=[update.totals[index]])
    return index, msgspec.json.encode(alone)


SPEND: Landing[Update] = Landing("spend_totals", _read, lambda update: len(update.totals), _rows, _single)
"""How `usage.spend` lands."""
