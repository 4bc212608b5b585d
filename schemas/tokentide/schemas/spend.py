"""Totals per entity and period, as absolute partials of one source partition."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

__all__ = ["Period", "Scope", "SpendTotal", "SpendUpdate", "period_end", "period_start"]

Whole = Annotated[int, Field(ge=0)]
Picos = Annotated[
    int,
    Field(strict=False, ge=0),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+$"}, mode="serialization"),
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
    """What one entity used in one period, counted from one partition of the events topic; absolute."""

    model_config = ConfigDict(frozen=True, strict=True)

    period: Period = Field(strict=False)
    period_start: Annotated[int, Field(description="Unix seconds, UTC.")]
    requests: Whole
    input_tokens: Whole
    output_tokens: Whole
    cost_pico_usd: Picos = Field(
        description="Whole 1e-12 USD; a decimal string in JSON, for it can outgrow 64 bits."
    )
    unpriced_requests: Whole = Field(description="Requests of unknown price: their cost is missing here.")


class SpendUpdate(BaseModel):
    """One record of `usage.spend`: the totals of one entity that changed, from one source partition.

    Topic key: `scope:scope_id|source_partition`. For each (scope, scope_id, period, period_start,
    source_partition) the record with the highest `version` is the truth; the sum over source partitions is
    the total. So a record sent twice, or an old one late, changes nothing.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    scope: Scope = Field(strict=False)
    scope_id: str = Field(description="The user, the team, ...; a model is named provider/model.")
    source_partition: Whole
    version: Whole = Field(description="The last source offset that is counted in.")
    totals: tuple[SpendTotal, ...] = Field(strict=False)


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
