"""Totals per entity and period, as absolute partials of one source partition."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

__all__ = ["Period", "Scope", "SpendTotal", "SpendUpdate", "period_end", "period_start"]

Whole = Annotated[int, Field(ge=0)]
Picos = Annotated[
    int,
    Field(strict=False),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^-?[0-9]+$"}, mode="serialization"),
]


class Scope(StrEnum):
    """What a total or a budget is about."""

    USER = "user"
    TEAM = "team"
    ORG = "org"
    PROVIDER = "provider"
    MODEL = "model"
    OPERATION = "operation"


class Period(StrEnum):
    """How long a total runs, in UTC and event time."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class SpendTotal(BaseModel):
    """What one entity used in one period; in an adjustment what is to be added to that, then perhaps negative."""

    model_config = ConfigDict(frozen=True, strict=True)

    period: Period = Field(strict=False)
    period_start: Annotated[int, Field(description="Unix seconds, UTC.")]
    requests: int
    input_tokens: int
    output_tokens: int
    cost_pico_usd: Picos = Field(
        description="Whole 1e-12 USD; a decimal string in JSON, for it can outgrow 64 bits."
    )
    unpriced_requests: int = Field(description="Requests of unknown price: their cost is missing here.")


class SpendUpdate(BaseModel):
    """One record of `usage.spend`: totals of one entity, or how far a source partition is.

    Topic key: `scope:scope_id|source_partition`, and `|adjustment` behind it where there is one. For each (scope,
    scope_id, period, period_start, source_partition, adjustment) the record with the highest `version` is the
    truth; the sum of these is the total. So a record sent twice, or an old one late, changes nothing.

    A record without a scope is a watermark, key `#watermark|source_partition`: each partition of the topic gets one
    from each source partition, now and then. What came before it in this partition of the topic is complete up to
    its `complete_up_to`, late events apart: those amend totals whenever they come.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    scope: Scope | None = Field(default=None, strict=False, description="Null in a watermark.")
    scope_id: str = Field(default="", description="The user, the team, ...; a model is named provider/model.")
    source_partition: Whole
    version: Whole = Field(
        default=0,
        description="The last source offset that is counted in; of an adjustment, a number that grows with each.",
    )
    complete_up_to: int | None = Field(
        default=None,
        description="Event time watermark of the source partition in Unix milliseconds; null: not known.",
    )
    event_time: int | None = Field(
        default=None,
        description="In a watermark: the largest event time that the source partition has met, in Unix milliseconds; "
        "null: none yet.",
    )
    adjustment: str = Field(
        default="",
        description="Empty: `totals` are absolute. `late/N`: what the event at source offset N adds to periods "
        "that the meter had closed. `audit`: what `tokentide audit --fix` adds.",
    )
    totals: tuple[SpendTotal, ...] = Field(default=(), strict=False)


def period_start(period: Period, timestamp: int) -> int:
    """Return the start of the period that holds the Unix second, in UTC."""
    if period is Period.HOUR:
        return timestamp - timestamp % 3600
    if period is Period.DAY:
        return timestamp - timestamp % 86400
    day = datetime.fromtimestamp(timestamp, UTC)
    return int(day.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())


def period_end(period: Period, start: int) -> int:
    """Return the Unix second at which the period that begins at `start` is over."""
    if period is Period.HOUR:
        return start + 3600
    if period is Period.DAY:
        return start + 86400
    next_month = datetime.fromtimestamp(start, UTC) + timedelta(days=31)
    return period_start(Period.MONTH, int(next_month.timestamp()))
