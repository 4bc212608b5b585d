"""Totals per entity and period, as absolute partials of one source partition."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Period", "Scope", "SpendTotal", "period_end", "period_start"]

Whole = Annotated[int, Field(ge=0)]


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
    """What one entity used in one period, counted from one partition of the events topic.

    The numbers are absolute: the highest `version` of (scope, scope_id, period, period_start,
    source_partition) is the truth, and the sum over source partitions is the total.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    scope: Scope = Field(strict=False)
    scope_id: str = Field(description="The user, the team, ...; a model is named provider/model.")
    period: Period = Field(strict=False)
    period_start: Annotated[int, Field(description="Unix seconds, UTC.")]
    source_partition: Whole
    version: Whole = Field(description="The last source offset that is counted in.")
    requests: Whole
    input_tokens: Whole
    output_tokens: Whole
    cost_pico_usd: Whole = Field(strict=False, description="Whole 1e-12 USD; a decimal string in JSON.")
    unpriced_requests: Whole = Field(description="Requests of unknown price: their cost is missing here.")


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
