"""Own prices of models, as the topic `usage.prices` holds them."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tokentide.schemas.budget import Figure
from tokentide.schemas.usage import Moment, Name, Provider

__all__ = ["PriceOverride"]

# So a token costs whole pico-USD, and no cost is ever rounded.
PerMtok = Annotated[Figure, Field(ge=0, le=10**6, max_digits=13, decimal_places=6, allow_inf_nan=False)]
PerRequest = Annotated[Figure, Field(ge=0, le=10**6, max_digits=19, decimal_places=12, allow_inf_nan=False)]


class PriceOverride(BaseModel):
    """What one model costs from a moment on, whatever the catalogue says.

    It holds for events at or after `valid_from` until a later `valid_from` of the same model. Topic key:
    `provider/model`. Of several records with the same provider, model and `valid_from` the last one counts.
    Raises pydantic.ValidationError for a price that is not whole pico-USD a token.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    schema_version: Literal[1] = 1
    provider: Provider = Field(description="Who sells the model; other spellings become the canonical one.")
    model: Name = Field(description="As events name it in `model`.")
    valid_from: Moment = Field(description="By event time.")
    input_usd_per_mtok: PerMtok = Field(description="USD per million input tokens.")
    output_usd_per_mtok: PerMtok = Field(description="USD per million output tokens, with reasoning.")
    cache_read_usd_per_mtok: PerMtok | None = Field(
        default=None, description="USD per million tokens read from a cache; null: the price of input."
    )
    cache_write_usd_per_mtok: PerMtok | None = Field(
        default=None, description="USD per million tokens written to a cache; null: the price of input."
    )
    usd_per_request: PerRequest = Field(
        default=Decimal(0), description="USD for each of the event's requests, besides its tokens."
    )
    withdrawn: bool = Field(
        default=False,
        description="The override of this `valid_from` holds no more; then an older one does, or the catalogue.",
    )

    def key(self) -> str:
        """Return the key of its record."""
        return f"{self.provider}/{self.model}"
