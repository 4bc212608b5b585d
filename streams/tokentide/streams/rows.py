"""The columns of a priced chunk that totals are made of, as plain Python values."""

from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tokentide.schemas.columns import read_chunk

__all__ = ["Rows", "read_rows"]

_COLUMNS = [
    "source_offset",
    "timestamp",
    "user_id",
    "team_id",
    "org_id",
    "provider",
    "model",
    "operation",
    "requests",
    "input_tokens",
    "output_tokens",
    "cost_usd",
]


class Rows(NamedTuple):
    """Columns of equal length, in the order of offsets; `hours` are starts of hours in Unix seconds, UTC."""

    offsets: list[int]
    hours: list[int]
    users: list[str | None]
    teams: list[str | None]
    orgs: list[str | None]
    providers: list[str | None]
    models: list[str | None]
    operations: list[str | None]
    requests: list[int]
    input_tokens: list[int]
    output_tokens: list[int]
    costs: list[int | None]
    """Whole pico-USD; None where the price is unknown."""

    def chosen(self, is_chosen: list[bool]) -> "Rows":
        """Return the rows for which the list says so, in their order."""
        columns: Any = [list(compress(column, is_chosen)) for column in self]
        return Rows._make(columns)

    def single(self, number: int) -> "Rows":
        """Return one row."""
        columns: Any = [column[number : number + 1] for column in self]
        return Rows._make(columns)

    def after(self, offset: int) -> "Rows":
        """Return the rows behind an offset."""
        start = int(np.searchsorted(self.offsets, offset, side="right"))
        columns: Any = [column[start:] for column in self]
        return self if start == 0 else Rows._make(columns)


def read_rows(value: bytes) -> Rows:
    """Return the rows of one record of `usage.priced`; raises pyarrow.ArrowInvalid for other bytes."""
    table = read_chunk(value, _COLUMNS)
    columns: Any = {
        name: table[name].to_pylist() for name in _COLUMNS if name not in ("timestamp", "cost_usd")
    }
    moments: Any = table["timestamp"].combine_chunks().cast(pa.int64())
    seconds = moments.to_numpy(zero_copy_only=False) // 1_000_000
    return Rows(
        offsets=columns["source_offset"],
        hours=(seconds - seconds % 3600).tolist(),
        users=columns["user_id"],
        teams=columns["team_id"],
        orgs=columns["org_id"],
        providers=columns["provider"],
        models=[
            f"{seller}/{model}" for seller, model in zip(columns["provider"], columns["model"], strict=True)
        ],
        operations=columns["operation"],
        requests=columns["requests"],
        input_tokens=columns["input_tokens"],
        output_tokens=columns["output_tokens"],
        costs=_picos(table["cost_usd"]),
    )


def _picos(column: Any) -> list[int | None]:
    """Return decimal128(38, 12) USD as whole pico-USD: the integers that are stored."""
    if not len(column):
        return []
    column = pa.concat_arrays(column.chunks)
    halves = np.frombuffer(column.buffers()[1], dtype=np.int64).reshape(-1, 2)
    halves = halves[column.offset : column.offset + len(column)]
    low, high = halves[:, 0], halves[:, 1]
    picos: list[int | None]
    if (high == low >> 63).all():
        picos = low.tolist()
    else:
        picos = [(int(h) << 64) | (int(v) & (2**64 - 1)) for v, h in zip(low, high, strict=True)]
    if column.null_count:
        valid = column.is_valid().to_pylist()
        picos = [pico if known else None for pico, known in zip(picos, valid, strict=True)]
    return picos
