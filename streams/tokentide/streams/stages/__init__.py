"""The stages of the meter: what its Faust agents do with the chunks of `usage.events`, `.priced` and `.spend`."""

from tokentide.streams.stages.budgets import BudgetStage
from tokentide.streams.stages.pricing import PricingStage
from tokentide.streams.stages.spend import SpendStage

__all__ = ["BudgetStage", "PricingStage", "SpendStage"]
