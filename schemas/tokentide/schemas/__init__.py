"""What the parts of tokentide say to each other: events, totals, budgets, alerts, topics, money, errors.

`tokentide.schemas.columns`, the Arrow form of priced rows, needs the extra `pipeline` and is imported alone.
"""

from typing import TYPE_CHECKING

from tokentide.schemas.environment import Environment
from tokentide.schemas.errors import (
    DataLossError,
    InvalidEventError,
    ServiceUnavailableError,
    SettingsError,
    StorageRefusedError,
    TokentideError,
)
from tokentide.schemas.event_id import new_event_id
from tokentide.schemas.kafka import KafkaSettings
from tokentide.schemas.later import later
from tokentide.schemas.money import PICO_PER_USD, format_usd, pico_from_usd, usd_from_pico
from tokentide.schemas.topics import TopicNames, TopicPlan, changelog_name, plan_topics
from tokentide.schemas.usage import ApiOperation, Status, UsageEvent

if TYPE_CHECKING:
    from tokentide.schemas.alert import Alert, AlertKind, AlertLevel, alert_id
    from tokentide.schemas.budget import Budget, BudgetLimit, Limits, Unit
    from tokentide.schemas.price import PriceOverride
    from tokentide.schemas.priced import PricedUsage, PriceStatus
    from tokentide.schemas.rejected import Rejected
    from tokentide.schemas.spend import Period, Scope, SpendTotal, SpendUpdate, period_end, period_start

__all__ = [
    "PICO_PER_USD",
    "Alert",
    "AlertKind",
    "AlertLevel",
    "ApiOperation",
    "Budget",
    "BudgetLimit",
    "DataLossError",
    "Environment",
    "InvalidEventError",
    "KafkaSettings",
    "Limits",
    "Period",
    "PriceOverride",
    "PriceStatus",
    "PricedUsage",
    "Rejected",
    "Scope",
    "ServiceUnavailableError",
    "SettingsError",
    "SpendTotal",
    "SpendUpdate",
    "Status",
    "StorageRefusedError",
    "TokentideError",
    "TopicNames",
    "TopicPlan",
    "Unit",
    "UsageEvent",
    "alert_id",
    "changelog_name",
    "format_usd",
    "new_event_id",
    "period_end",
    "period_start",
    "pico_from_usd",
    "plan_topics",
    "usd_from_pico",
]

# What a service that only sends events does not need: pydantic takes a quarter of a second to build these models.
_LATER = {
    "alert": ("Alert", "AlertKind", "AlertLevel", "alert_id"),
    "budget": ("Budget", "BudgetLimit", "Limits", "Unit"),
    "price": ("PriceOverride",),
    "priced": ("PricedUsage", "PriceStatus"),
    "rejected": ("Rejected",),
    "spend": ("Period", "Scope", "SpendTotal", "SpendUpdate", "period_end", "period_start"),
}
if not TYPE_CHECKING:
    __getattr__ = later(__name__, _LATER)
