"""One entry of the ledger of credits: what a user, a team or an organisation was given."""

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal, Self, TypedDict

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, model_validator

__all__ = ["CreditEntry", "CreditFields", "CreditUnit", "credit_entry"]

CreditUnit = Literal["credits", "usd", "tokens"]
_MAX_AMOUNT = 10**15


def _plain(amount: Decimal) -> str:
    return f"{amount:f}"


Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$")]


class CreditEntry(BaseModel):
    """One entry of the ledger; topic key `scope:scope_id`, and the same `credit_id` counts once.

    Raises pydantic.ValidationError for a wrong field. An adjustment may be negative: a refund, a correction.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    credit_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    schema_version: Literal[1] = 1
    timestamp: AwareDatetime
    kind: Literal["grant", "purchase", "adjustment"]
    scope: Literal["user", "team", "org"]
    scope_id: Name
    amount: Annotated[
        Decimal,
        Field(
            strict=False,
            ge=-_MAX_AMOUNT,
            le=_MAX_AMOUNT,
            max_digits=28,
            decimal_places=12,
            allow_inf_nan=False,
        ),
        PlainSerializer(_plain, return_type=str, when_used="json"),
    ] = Field(description="In JSON a string of digits, so that no reader makes a float of it.")
    unit: CreditUnit
    reason: Annotated[str, Field(max_length=256)] = ""
    reference: Name = Field(
        description="Names this entry among those of its owner: an order, 'trial', '2026-11'."
    )
    expires_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.amount == 0 or (self.amount < 0 and self.kind != "adjustment"):
            raise ValueError(f"the amount of a {self.kind} cannot be {self.amount}")
        if self.unit == "tokens" and self.amount != int(self.amount):
            raise ValueError("an amount in tokens must be a whole number")
        if self.expires_at is not None and self.expires_at <= self.timestamp:
            raise ValueError("expires_at must lie after the entry's timestamp")
        return self


class CreditFields(TypedDict, total=False):
    """What an entry is made of, beside its amount; one of the owners is needed, and `reference`.

    The same kind, owner, unit and reference is the same entry: it counts once.
    """

    user_id: object
    team_id: object
    org_id: object
    reference: str
    unit: CreditUnit
    reason: str
    expires_at: datetime | None
    timestamp: datetime | None


def credit_entry(
    kind: str,
    amount: object,
    *,
    reference: str = "",
    user_id: object = None,
    team_id: object = None,
    org_id: object = None,
    unit: CreditUnit = "credits",
    reason: str = "",
    expires_at: datetime | None = None,
    timestamp: datetime | None = None,
) -> CreditEntry:
    """Return the entry; raises ValueError for a float, for no owner or several, and for what CreditEntry refuses."""
    if isinstance(amount, float | bool):
        raise ValueError("an amount must be a Decimal, an int or a string of digits, for it is money")
    owners = {"user": user_id, "team": team_id, "org": org_id}
    named = [(scope, str(owner)) for scope, owner in owners.items() if owner is not None]
    if len(named) != 1:
        raise ValueError("an entry belongs to one of user_id, team_id and org_id")
    scope, scope_id = named[0]
    identity = "\x00".join((kind, scope, scope_id, unit, reference))
    return CreditEntry.model_validate(
        {
            "credit_id": hashlib.sha256(identity.encode()).hexdigest()[:32],
            "timestamp": timestamp or datetime.now(UTC),
            "kind": kind,
            "scope": scope,
            "scope_id": scope_id,
            "amount": amount,
            "unit": unit,
            "reason": reason,
            "reference": reference,
            "expires_at": expires_at,
        }
    )
