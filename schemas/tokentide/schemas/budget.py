"""Budgets, as the compacted topic `usage.budgets` holds them, and what is left of them."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tokentide.schemas.money import pico_from_usd
from tokentide.schemas.provider import canonical_provider
from tokentide.schemas.spend import Period, Scope

__all__ = ["Budget", "BudgetLimit", "Figure", "Limits", "Unit"]


def _plain(figure: Decimal) -> str:
    return f"{figure:f}"


Figure = Annotated[
    Decimal, Field(strict=False), PlainSerializer(_plain, return_type=str, when_used="json-unless-none")
]
"""USD or tokens; in JSON a string of digits without an exponent, so that no reader makes a float of it."""

Thresholds = Annotated[
    tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(strict=False, min_length=1, max_length=20)
]


class Unit(StrEnum):
    """What a budget limits."""

    USD = "usd"
    TOKENS = "tokens"


class Budget(BaseModel):
    """A limit on what one entity may use in each day or month (UTC).

    Topic key: `budget_id`; a null value deletes. A change is a new `revision`, whose alerts are new alerts.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    budget_id: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
    revision: Annotated[int, Field(ge=1)] = 1
    scope: Scope = Field(strict=False)
    scope_id: Annotated[str, Field(min_length=1, max_length=513)]
    period: Period = Field(default=Period.MONTH, strict=False)
    unit: Unit = Field(default=Unit.USD, strict=False)
    limit: Annotated[
        Figure,
        Field(gt=0, le=10**15, max_digits=28, decimal_places=12, allow_inf_nan=False),
    ] = Field(description="USD, or a whole number of tokens (input + output).")
    thresholds: Thresholds = Field(default=(75, 90, 100), description="Percent of the limit.")

    @field_validator("scope_id")
    @classmethod
    def _name_like_the_totals(cls, scope_id: str, info: ValidationInfo) -> str:
        """Totals know a provider by its canonical name only; a budget for another spelling would never bind."""
        provider, slash, model = scope_id.partition("/")
        match info.data.get("scope"):
            case Scope.PROVIDER:
                return canonical_provider(scope_id)
            case Scope.MODEL:
                return f"{canonical_provider(provider)}{slash}{model}"
            case _:
                return scope_id

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.period is Period.HOUR:
            raise ValueError("period must be day or month")
        if self.unit is Unit.TOKENS and self.limit != int(self.limit):
            raise ValueError("a limit in tokens must be a whole number")
        return self

    def limit_units(self) -> int:
        """Return the limit in whole pico-USD, or in tokens."""
        return pico_from_usd(self.limit) if self.unit is Unit.USD else int(self.limit)


class BudgetLimit(BaseModel):
    """What is left of one budget in one period; USD as decimal strings in JSON."""

    model_config = ConfigDict(frozen=True, strict=True)

    budget_id: str
    unit: Unit = Field(strict=False)
    limit: Figure
    used: Figure
    left: Figure = Field(description="Never below zero.")
    exceeded: bool
    period: Period = Field(strict=False)
    period_start: AwareDatetime
    until: AwareDatetime = Field(description="When the period is over and the limit is fresh again.")


class Limits(BaseModel):
    """The state of every budget of one entity: one record of the compacted topic `usage.limits`.

    Topic key: `scope:scope_id`. The record with the higher (`budgets_version`, `version`) is the newer one,
    whatever the order in the topic. A limit whose `until` has passed no longer binds.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    schema_version: Literal[1] = 1
    scope: Scope = Field(strict=False)
    scope_id: str
    budgets_version: int = Field(description="Offset in the budgets topic up to which budgets were known.")
    version: int = Field(description="Offset of `usage.spend` up to which totals were known; it only grows.")
    exceeded: bool = Field(description="Whether any budget is used up.")
    complete_up_to: AwareDatetime | None = Field(
        default=None,
        description="Event time watermark, the minimum over all partitions; null: not known yet.",
    )
    limits: tuple[BudgetLimit, ...] = Field(strict=False)
