"""The records of `usage.spend`, changed totals of one entity or a watermark, as rows of `spend_totals`."""

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from tokentide.schemas import Period
from tokentide.schemas.totals import Total, Update, decode_update
from tokentide.sinks.landing import Landing, Record, pico_usd_column

__all__ = ["SPEND"]

_NOTHING = Total(Period.HOUR, 0, 0, 0, 0, 0, 0)


def _read(record: Record) -> Update:
    update = decode_update(record.value)
    pico_usd_column([total.cost_pico_usd for total in update.totals])  # refuses what the table cannot hold
    if update.scope is not None:
        return update
    if update.totals or update.complete_up_to is None:
        raise ValueError("without a scope it must be a watermark, and no more")
    # A row of its own for each partition of usage.spend: each is told by itself how far the sources are.
    return msgspec.structs.replace(update, scope_id=str(record.partition), version=update.complete_up_to)


def _count(update: Update) -> int:
    return 1 if update.scope is None else len(update.totals)


def _rows(updates: Sequence[Update]) -> pa.Table:
    pairs = [
        (update, total)
        for update in updates
        for total in ((_NOTHING,) if update.scope is None else update.totals)
    ]
    periods = ["" if update.scope is None else total.period for update, total in pairs]
    return pa.table(
        {
            "scope": pa.array([update.scope or "" for update, _ in pairs], pa.string()).dictionary_encode(),
            "scope_id": pa.array([update.scope_id for update, _ in pairs], pa.string()),
            "period": pa.array(periods, pa.string()).dictionary_encode(),
            "period_start": pa.array([total.period_start for _, total in pairs], pa.timestamp("s", tz="UTC")),
            "source_partition": pa.array([update.source_partition for update, _ in pairs], pa.uint32()),
            "adjustment": pa.array([update.adjustment for update, _ in pairs], pa.string()),
            "version": pa.array([update.version for update, _ in pairs], pa.uint64()),
            "requests": pa.array([total.requests for _, total in pairs], pa.int64()),
            "input_tokens": pa.array([total.input_tokens for _, total in pairs], pa.int64()),
            "output_tokens": pa.array([total.output_tokens for _, total in pairs], pa.int64()),
            "cost_usd": pico_usd_column([total.cost_pico_usd for _, total in pairs]),
            "unpriced_requests": pa.array([total.unpriced_requests for _, total in pairs], pa.int64()),
            "complete_up_to": pa.array(
                [update.complete_up_to for update, _ in pairs], pa.timestamp("ms", tz="UTC")
            ),
        }
    )


def _single(update: Update, index: int) -> tuple[int, bytes]:
    alone = msgspec.structs.replace(update, totals=update.totals[index : index + 1])
    return index, msgspec.json.encode(alone)


SPEND: Landing[Update] = Landing("spend_totals", _read, _count, _rows, _single)
"""How `usage.spend` lands."""
