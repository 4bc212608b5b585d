"""Decoding of usage events at msgspec's speed, under the contract of the pydantic model.

The struct accepts only what UsageEvent surely accepts; everything else is asked of UsageEvent itself, which accepts
it or gives the reason. So both always agree.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import to_json

from tokentide.schemas import InvalidEventError, UsageEvent
from tokentide.schemas.provider import canonical_provider
from tokentide.schemas.usage import CONTAINED
from tokentide.schemas.usage_struct import field_type
from tokentide.streams.event_columns import EventColumns
from tokentide.streams.event_reader import EventReader
from tokentide.streams.moments import UNSURE, read_moments

__all__ = ["Decoding", "decode"]

# A raw length that no re-encoding can push over the model's limit on metadata.
_SURE_METADATA_BYTES = 2048
# JSON that msgspec skips unread, but pydantic may refuse or read as another value: deep nesting, long numbers.
_SURE_DEPTH = 64
_UNSURE_NUMBER = re.compile(rb"\d[eE]|\d{16}")
_decode_tags = msgspec.json.Decoder(field_type("tags")).decode
_reader = EventReader()


class Decoding(NamedTuple):
    """What became of records: the events, the place of each one's record, and by place why others hold none.

    A reason is for the person who mends the producer.
    """

    events: EventColumns
    places: list[int]
    refused: dict[int, str]


def decode(values: Sequence[bytes | None]) -> Decoding:
    """Return the events that the values of Kafka records hold."""
    events = _reader.read(values)
    refused = {}
    asked = set()
    unsure = [place for place, event in enumerate(events) if event is None]
    while True:
        for place in unsure:
            try:
                event = UsageEvent.from_wire(values[place])
            except InvalidEventError as error:
                events[place] = None
                refused[place] = str(error)
                continue
            if _reader.learn(event.model_fields_set):
                return decode(values)
            events[place] = _from_model(event)
        asked.update(unsure)
        places = [place for place, event in enumerate(events) if event is not None]
        columns, is_certain = _columns([event for event in events if event is not None])
        unsure = [places[row] for row in np.flatnonzero(~is_certain).tolist() if places[row] not in asked]
        if not unsure:
            return Decoding(columns, places, refused)


def _columns(events: Sequence[tuple[Any, ...]]) -> tuple[EventColumns, Any]:
    """Return columns, and for each event whether the model would surely accept it, and read the same values."""
    if not events:
        return EventColumns({}, np.zeros(0, np.int64)), np.zeros(0, bool)
    values: dict[str, Sequence[Any]] = dict(zip(_reader.names, zip(*events, strict=True), strict=True))
    names = {name: canonical_provider(name) for name in set(values["provider"])}
    values["provider"] = [names[name] for name in values["provider"]]
    moments = read_moments(values["timestamp"])
    is_certain = moments != UNSURE
    created = values.get("provider_created", ())
    told = [row for row, text in enumerate(created) if text is not None]
    if told:
        answered = read_moments([created[row] for row in told])
        is_certain[told] &= answered != UNSURE
        values["provider_created"] = read = list(created)
        for row, moment in zip(told, answered.tolist(), strict=True):
            read[row] = moment
    for name, parse in (("tags", _tags), ("metadata", _metadata)):
        if name in values:
            values[name] = _each_once(values[name], parse)
            is_certain &= [value is not None for value in values[name]]
    columns = EventColumns(values, moments)
    if "total_tokens" in values:
        totals = pa.array(values["total_tokens"], pa.int64())
        is_certain &= pc.equal(totals, columns.array("total_tokens")).fill_null(True).to_numpy(False)
    for smaller, larger in CONTAINED:
        if told_of := [name for name in smaller if name in values]:
            is_certain &= sum(columns.integers(name) for name in told_of) <= columns.integers(larger)
    return columns, is_certain


def _each_once(values: Sequence[Any], parse: Callable[[bytes], Any]) -> list[Any]:
    """Return what each piece of JSON stands for; most are the same, and those share one object."""
    texts = [bytes(value) if type(value) is msgspec.Raw else None for value in values]
    read = {text: parse(text) for text in set(texts) if text is not None}
    return [value if text is None else read[text] for value, text in zip(values, texts, strict=True)]


def _tags(text: bytes) -> Mapping[str, str] | None:
    """Return tags; None when only the model can judge them, as of `_metadata`."""
    try:
        tags: Mapping[str, str] = _decode_tags(text)
    except (msgspec.MsgspecError, ValueError):
        return None
    return tags


def _metadata(raw: bytes) -> str | None:
    is_sure = (
        len(raw) <= _SURE_METADATA_BYTES
        and raw.startswith(b"{")
        and raw.isascii()
        and raw.count(b"{") + raw.count(b"[") <= _SURE_DEPTH
        and not _UNSURE_NUMBER.search(raw)
    )
    return raw.decode() if is_sure else None


def _from_model(event: UsageEvent) -> tuple[Any, ...]:
    values = {name: getattr(event, name) for name in _reader.names}
    for name in ("api_operation", "status"):
        if name in values:
            values[name] = values[name].value
    if "metadata" in values:
        values["metadata"] = to_json(event.metadata, inf_nan_mode="null").decode()
    for name in ("timestamp", "provider_created"):
        if values.get(name) is not None:
            values[name] = values[name].isoformat().replace("+00:00", "Z")
    return tuple(values.values())
