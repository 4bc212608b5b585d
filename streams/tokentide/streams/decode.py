"""Decoding of usage events at msgspec's speed, under the contract of the pydantic model.

The struct accepts only what UsageEvent surely accepts; everything else is asked of UsageEvent itself, which accepts
it or gives the reason. So both always agree.
"""

import re
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import to_json

from tokentide.schemas import InvalidEventError, UsageEvent
from tokentide.schemas.provider import canonical_provider
from tokentide.schemas.usage import CONTAINED
from tokentide.schemas.usage_struct import FIELDS, usage_struct
from tokentide.streams.event_columns import EventColumns
from tokentide.streams.moments import UNSURE, read_moments

__all__ = ["Decoding", "decode"]

# A raw length that no re-encoding can push over the model's limit on metadata.
_SURE_METADATA_BYTES = 2048
# JSON that msgspec skips unread, but pydantic may refuse or read as another value: deep nesting, long numbers.
_SURE_DEPTH = 64
_UNSURE_NUMBER = re.compile(rb"\d[eE]|\d{16}")
_NO_METADATA = msgspec.Raw(b"{}")
# msgspec rounds the seventh digit of a second, pydantic cuts it off: `read_moments` reads the text.
_MOMENT: Any = typing.Annotated[str, msgspec.Meta(min_length=20, max_length=35)]
# `metadata` is raw JSON. An id made up by the reader would make each reading another event.
_decoder = msgspec.json.Decoder(
    usage_struct(
        "Decoded",
        moment=_MOMENT,
        metadata=msgspec.Raw,
        no_metadata=_NO_METADATA,
        required=frozenset({"event_id"}),
    )
)


class Decoding(NamedTuple):
    """What became of records: the events, the place of each one's record, and by place why others hold none.

    A reason is for the person who mends the producer.
    """

    events: EventColumns
    places: list[int]
    refused: dict[int, str]


def decode(values: Sequence[bytes | None]) -> Decoding:
    """Return the events that the values of Kafka records hold."""
    events = [_decoded(value) for value in values]
    refused = {}
    asked = set()
    unsure = [place for place, event in enumerate(events) if event is None]
    while True:
        for place in unsure:
            try:
                events[place] = _from_model(UsageEvent.from_wire(values[place]))
            except InvalidEventError as error:
                events[place] = None
                refused[place] = str(error)
        asked.update(unsure)
        places = [place for place, event in enumerate(events) if event is not None]
        columns, is_certain = _columns([event for event in events if event is not None])
        unsure = [places[row] for row in np.flatnonzero(~is_certain).tolist() if places[row] not in asked]
        if not unsure:
            return Decoding(columns, places, refused)


def _decoded(value: bytes | None) -> tuple[Any, ...] | None:
    """Return the values of the fields; None for what only the model can judge."""
    # Patterns forbid control characters only, which JSON can hold only behind a backslash.
    if value is None or b"\\" in value:
        return None
    try:
        return msgspec.structs.astuple(_decoder.decode(value))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _columns(events: Sequence[tuple[Any, ...]]) -> tuple[EventColumns, Any]:
    """Return columns, and for each event whether the model would surely accept it, and read the same values."""
    if not events:
        return EventColumns(dict.fromkeys(FIELDS, ()), np.zeros(0, np.int64)), np.zeros(0, bool)
    values: dict[str, Sequence[Any]] = dict(zip(FIELDS, zip(*events, strict=True), strict=True))
    names = {name: canonical_provider(name) for name in set(values["provider"])}
    values["provider"] = [names[name] for name in values["provider"]]
    moments = read_moments(values["timestamp"])
    is_certain = moments != UNSURE
    if values["provider_created"].count(None) < len(events):
        values["provider_created"] = created = list(values["provider_created"])
        told = [row for row, text in enumerate(created) if text is not None]
        answered = read_moments([created[row] for row in told])
        is_certain[told] &= answered != UNSURE
        for row, moment in zip(told, answered.tolist(), strict=True):
            created[row] = moment
    columns = EventColumns(values, moments)
    totals = pa.array(values["total_tokens"], pa.int64())
    is_certain &= pc.equal(totals, columns.array("total_tokens")).fill_null(True).to_numpy(False)
    for smaller, larger in CONTAINED:
        is_certain &= sum(columns.integers(name) for name in smaller) <= columns.integers(larger)
    if values["metadata"].count(_NO_METADATA) < len(events):
        is_certain &= [raw is _NO_METADATA or _is_sure_metadata(bytes(raw)) for raw in values["metadata"]]
    return columns, is_certain


def _is_sure_metadata(raw: bytes) -> bool:
    return (
        len(raw) <= _SURE_METADATA_BYTES
        and raw.startswith(b"{")
        and raw.isascii()
        and raw.count(b"{") + raw.count(b"[") <= _SURE_DEPTH
        and not _UNSURE_NUMBER.search(raw)
    )


def _from_model(event: UsageEvent) -> tuple[Any, ...]:
    values = {name: getattr(event, name) for name in FIELDS}
    values["metadata"] = msgspec.Raw(to_json(event.metadata, inf_nan_mode="null"))
    values["api_operation"] = event.api_operation.value
    values["status"] = event.status.value
    for name in ("timestamp", "provider_created"):
        if values[name] is not None:
            values[name] = values[name].isoformat().replace("+00:00", "Z")
    return tuple(values.values())
