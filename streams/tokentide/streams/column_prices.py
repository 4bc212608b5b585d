"""Prices of a chunk as columns: calls that are priced alike are looked up once, and numpy works out their money.

`Catalogue.price` says what a call costs; this says the same of many at once. A call whose price rests on more than
a rate and its counts is asked for alone.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tokentide.schemas import PriceStatus, usd_from_pico
from tokentide.streams.event_columns import EventColumns
from tokentide.streams.plan import Counts, Parts, Plan, is_coherent
from tokentide.streams.prices import Catalogue, Price, PriceContext, Rate

__all__ = ["price_columns"]

_MONEY = pa.decimal128(38, 12)
_DAY_US = 86_400_000_000
_CALLED = ("provider", "model", "processing", "service_tier", "speed")
_SAFE = 2**62


class _Rule(NamedTuple):
    """What prices calls of one kind: what a call without counts costs, and what one more of each count adds."""

    start: Price
    coefficients: tuple[int, ...] = (0,) * 14


_NOT_USED = _Rule(Price(PriceStatus.UNPRICED, *(None,) * 10))


def price_columns(events: EventColumns, catalogue: Catalogue) -> dict[str, Any]:
    """Return the columns that say what the events cost, by their names in PRICED_SCHEMA."""
    counts = _counts(events)
    rules, rule_of = _rules(events, counts, catalogue)
    start: Any = Price(*zip(*(rule.start for rule in rules), strict=True))  # type: ignore[arg-type]  # columns
    few: dict[str, Any] = {
        "price_status": pa.array(start.status, pa.string()),
        "price_source": pa.array(start.source, pa.string()),
        "priced_model": pa.array(start.model, pa.string()),
        "input_price_per_mtok": pa.array(start.input_per_mtok, _MONEY),
        "output_price_per_mtok": pa.array(start.output_per_mtok, _MONEY),
        "cached_price_per_mtok": pa.array(start.cached_per_mtok, _MONEY),
    }
    told = pa.RecordBatch.from_pydict(few).take(pa.array(rule_of))
    columns: dict[str, Any] = dict(zip(few, told.columns, strict=True))
    parts = _parts(rules, rule_of, counts)
    is_known = np.array([total is not None for total in start.total])[rule_of]
    columns |= {f"{name}_cost_usd": _usd(part, is_known) for name, part in parts._asdict().items()}
    columns["list_cost_usd"] = columns["cost_usd"] = _usd(sum(parts), is_known)
    return columns


def _counts(events: EventColumns) -> Any:
    """Return Counts of columns; a plain 0 for what no event reports, and 1 for any seconds of audio."""
    columns = [events.integers(name) for name in Counts._fields[:-1]]
    columns.append(np.array(events.values("audio_seconds"), bool).astype(np.int64))
    return Counts(*(column if column.any() else 0 for column in columns))


def _rules(events: EventColumns, counts: Any, catalogue: Catalogue) -> tuple[list[_Rule], Any]:
    """Return the rules, and for each event the place of its own."""
    days = (events.microseconds // _DAY_US).tolist()
    firsts, calls = _grouped(zip(*(events.values(name) for name in _CALLED), days, strict=True))
    starts = [catalogue.tiers(*_call(events, first)) for first in firsts]
    is_alone = np.array([tiers is None for tiers in starts])[calls]
    tier = np.zeros(len(events), np.int64)
    for call, tiers in enumerate(starts):
        if tiers:
            where = np.flatnonzero(calls == call)
            tier[where] = np.searchsorted(tiers, events.integers("input_tokens")[where])
    reported: Any = sum((count > 0) << place for place, count in enumerate(counts))
    firsts, rule_of = _grouped((calls << 32 | tier << 20 | reported << 1 | is_coherent(counts)).tolist())
    rules = []
    for first in firsts:
        rule = None if is_alone[first] else catalogue.rule(*_call(events, first), _counts_of(events, first))
        if isinstance(rule, Rate):
            rules.append(_Rule(rule.price(Counts()), rule.plan.coefficients))
        else:
            rules.append(_NOT_USED if rule is None else _Rule(rule))
    is_alone |= np.array([rule is _NOT_USED for rule in rules])[rule_of]
    for place in np.flatnonzero(is_alone).tolist():
        requests = events.value("requests", place)
        rule_of[place] = len(rules)
        rules.append(_Rule(catalogue.price(*_call(events, place), _counts_of(events, place), requests)))
    return rules, rule_of


def _grouped(keys: Iterable[Any]) -> tuple[list[int], Any]:
    """Return where each group of equal keys begins, and for each key its group."""
    places: dict[Any, int] = {}
    groups = np.array([places.setdefault(key, len(places)) for key in keys])
    firsts = np.empty(len(places), np.int64)
    firsts[groups[::-1]] = np.arange(len(groups) - 1, -1, -1)
    return firsts.tolist(), groups


def _call(events: EventColumns, place: int) -> tuple[str, str, datetime, PriceContext]:
    provider, model, processing, service_tier, speed = (events.value(name, place) for name in _CALLED)
    return provider, model, events.moment(place), PriceContext(processing, service_tier or "", speed or "")


def _counts_of(events: EventColumns, place: int) -> Counts:
    return Counts(*(events.value(name, place) for name in Counts._fields))


def _parts(rules: Sequence[_Rule], rule_of: Any, counts: Any) -> Any:
    """Return Parts of columns in whole pico-USD: 64-bit integers, or Python's where those might be too small."""
    start: Any = Parts(*zip(*([part or 0 for part in rule.start[4:8]] for rule in rules), strict=True))  # type: ignore[arg-type]
    most = sum(int(np.max(count)) for count in counts)
    # A part adds up products of counts and coefficients, some twice or thrice: never more than this.
    bound = 4 * most * max(sum(map(abs, rule.coefficients)) for rule in rules)
    bound += max(abs(amount) for part in start for amount in part)
    kind: Any = np.int64 if bound < _SAFE else object
    coefficients: Any = np.array([rule.coefficients for rule in rules], kind)[rule_of].T
    parts = Plan(tuple(coefficients), 0).parts(counts)
    return Parts(*(part + np.array(first, kind)[rule_of] for part, first in zip(parts, start, strict=True)))


def _usd(picos: Any, is_known: Any) -> Any:
    """Return whole pico-USD as decimal128(38, 12) USD: the same integers under another name."""
    if picos.dtype == object:
        amounts = [
            usd_from_pico(pico) if known else None for pico, known in zip(picos, is_known, strict=True)
        ]
        return pa.array(amounts, _MONEY)
    wide: Any = np.empty((len(picos), 2), np.int64)
    wide[:, 0] = picos
    wide[:, 1] = picos >> 63
    validity = None if is_known.all() else pa.array(is_known).buffers()[1]
    return pa.Array.from_buffers(_MONEY, len(picos), [validity, pa.py_buffer(wide)])
