"""A usage event with its price, as `usage.priced` and ClickHouse hold it."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from tokentide.schemas.usage import UsageEvent

__all__ = ["PriceStatus", "PricedUsage"]

Usd = Annotated[Decimal, Field(strict=False, max_digits=38, decimal_places=12)]


class PriceStatus(StrEnum):
    """What is known about the price of a call."""

    PRICED = "priced"
    FREE = "free"
    APPROXIMATE = "approximate"
    UNPRICED = "unpriced"


class PricedUsage(UsageEvent):
    """A usage event, where Kafka held it, and what it cost; all amounts in USD.

    `cost_usd` is null exactly when `price_status` is unpriced; then the tokens still count.
    `input_cost_usd + cache_cost_usd + output_cost_usd + tool_cost_usd = list_cost_usd`, to the pico-dollar.
    """

    source_partition: int = Field(ge=0, description="Partition of the events topic.")
    source_offset: int = Field(ge=0, description="Offset there; with the partition it names the row.")
    list_cost_usd: Usd | None = Field(description="By the catalogue's price.")
    cost_usd: Usd | None = Field(description="After discounts; what every total adds up.")
    input_cost_usd: Usd | None = Field(description="Input that touched no cache.")
    cache_cost_usd: Usd | None = Field(description="Cache reads and writes.")
    output_cost_usd: Usd | None = None
    tool_cost_usd: Usd | None = Field(default=None, description="Requests and web searches.")
    input_price_per_mtok: Usd | None = Field(default=None, description="USD per million input tokens.")
    output_price_per_mtok: Usd | None = Field(default=None, description="USD per million output tokens.")
    cached_price_per_mtok: Usd | None = Field(default=None, description="USD per million cache-read tokens.")
    discount_pct: Decimal = Field(default=Decimal(0), strict=False, ge=0, le=100)
    currency: str = "USD"
    price_status: PriceStatus = Field(strict=False)
    price_source: str | None = Field(default=None, description="genai-prices, override or local.")
    price_version: str | None = Field(
        default=None,
        description="Version of the catalogue, and up to which offset of `usage.prices` (exclusive) overrides were "
        "known: `genai-prices/0.0.40+prices@3`; without the second part none were.",
    )
    priced_model: str | None = Field(default=None, description="The id in the catalogue: provider/model.")
    priced_at: AwareDatetime
    late: int = Field(
        default=0,
        ge=0,
        le=2,
        description="0: counted as usual. 1: its hour and day, 2: its month too were closed when it came; there it "
        "counts as an adjustment.",
    )
