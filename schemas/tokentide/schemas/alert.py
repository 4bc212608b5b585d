"""Alerts, as the topic `usage.alerts` holds them, for every subscriber."""

import hashlib
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tokentide.schemas.budget import Figure, Unit
from tokentide.schemas.spend import Period, Scope

__all__ = ["Alert", "AlertKind", "AlertLevel", "alert_id"]


class AlertKind(StrEnum):
    """What happened."""

    THRESHOLD = "threshold"
    BUDGET_EXCEEDED = "budget_exceeded"
    UNPRICED_MODEL = "unpriced_model"
    EVENTS_DROPPED = "events_dropped"
    """A service could not keep usage events while Kafka was away: they are missing in the totals of the scope."""


class AlertLevel(StrEnum):
    """How urgent it is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Alert(BaseModel):
    """One alert. It may be on the topic more than once: subscribers drop repeats by `alert_id`."""

    model_config = ConfigDict(frozen=True, strict=True)

    schema_version: Literal[1] = 1
    alert_id: str = Field(description="Deterministic: the same alert has the same id after any crash.")
    timestamp: AwareDatetime = Field(description="When it was raised, wall clock.")
    kind: AlertKind = Field(strict=False)
    level: AlertLevel = Field(strict=False)
    scope: Scope = Field(strict=False)
    scope_id: str
    period: Period = Field(strict=False)
    period_start: AwareDatetime
    period_end: AwareDatetime
    budget_id: str | None = None
    budget_revision: int | None = None
    threshold_pct: int | None = None
    unit: Unit | None = Field(default=None, strict=False)
    limit: Figure | None = None
    used: Figure | None = Field(default=None, description="USD or tokens, as `unit` says.")
    requests: int | None = Field(
        default=None,
        description="For unpriced_model: how many requests so far; for events_dropped: how many are missing.",
    )
    message: str
    complete_up_to: AwareDatetime | None = Field(
        default=None,
        description="Event time watermark, the minimum over all partitions: up to then the numbers are complete, "
        "late events apart. Null: not known yet.",
    )


def alert_id(kind: AlertKind, subject: str, period_start: int, threshold_pct: int | None) -> str:
    """Return the id of an alert: 32 hex digits of SHA-256 over what makes it the same alert.

    `subject` is `budget_id@revision` for a budget, `provider/model` for a model without a price, and who dropped what
    when for dropped events; `period_start` is in Unix seconds.
    """
    parts = (kind.value, subject, str(period_start), str(threshold_pct or ""))
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
