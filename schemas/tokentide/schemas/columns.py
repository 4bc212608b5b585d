"""The Arrow form of priced rows: one record of `usage.priced` is one Arrow IPC stream of these columns."""

import enum
import types
import typing
from decimal import Decimal
from typing import Any

from pydantic import AwareDatetime, BaseModel

from tokentide.schemas.priced import PricedUsage

try:
    import pyarrow as pa
except ImportError as error:
    raise ImportError("priced rows need pyarrow: pip install 'tokentide[pipeline]'") from error

__all__ = [
    "COVERED_FROM",
    "COVERED_TO",
    "EVENT_CLOCK",
    "NONCE",
    "PRICED_SCHEMA",
    "SEEN_DAY",
    "read_chunk",
    "write_chunk",
]

# Headers of a record of `usage.priced`: the source offsets that it covers, rejected and duplicate ones too.
COVERED_FROM = "tokentide-covered-from"
COVERED_TO = "tokentide-covered-to"
# For the dedupe memory: the newest day (since 1970) of the source, and what the records of no other chunk carry.
SEEN_DAY = "tokentide-seen-day"
NONCE = "tokentide-nonce"
# For the totals: the largest event time met (Unix ms), and before which days and months (Unix s) all is closed.
EVENT_CLOCK = "tokentide-event-clock"

_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    bool: pa.bool_(),
    float: pa.float64(),
    Decimal: pa.decimal128(38, 12),
    AwareDatetime: pa.timestamp("us", tz="UTC"),
}


def _field(name: str, annotation: Any) -> "pa.Field[Any]":
    if name == "tags":
        return pa.field(name, pa.map_(pa.string(), pa.string()), nullable=False)
    if name == "metadata":
        return pa.field(name, pa.string(), nullable=False)
    nullable = False
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            (annotation,) = (part for part in typing.get_args(annotation) if part is not type(None))
            nullable = True
        elif origin is typing.Literal:
            annotation = type(typing.get_args(annotation)[0])
        elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            annotation = str
        else:
            return pa.field(name, _TYPES[annotation], nullable=nullable)


def _schema(model: type[BaseModel]) -> pa.Schema:
    return pa.schema([_field(name, field.annotation) for name, field in model.model_fields.items()])


PRICED_SCHEMA: pa.Schema = _schema(PricedUsage)
"""One column a field of PricedUsage; money is decimal128(38, 12) USD, `metadata` is JSON text."""

_WRITING = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


def write_chunk(rows: pa.RecordBatch | pa.Table) -> bytes:
    """Return the rows, of any schema, as an Arrow IPC stream with lz4 buffers; a table keeps its chunks."""
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, rows.schema, options=_WRITING) as writer:
        writer.write(rows)
    return buffer.getvalue().to_pybytes()


def read_chunk(value: bytes, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of one record of `usage.priced`; with `columns`, only those are read.

    Raises pyarrow.ArrowInvalid for bytes that are no Arrow IPC stream.
    """
    included = None if columns is None else [PRICED_SCHEMA.get_field_index(name) for name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=included, use_threads=False)
    try:
        with pa.ipc.open_stream(value, options=options) as reader:
            return reader.read_all()
    except OSError as error:  # a stream that is cut off, says pyarrow, is a problem of the disk
        raise pa.ArrowInvalid(str(error)) from None
