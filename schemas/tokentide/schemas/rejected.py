"""Records that are no usage events, as the topic `usage.rejected` holds them."""

from typing import Literal

from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field

__all__ = ["Rejected"]


class Rejected(BaseModel):
    """A record of the events topic that was refused: its bytes, the reason, and where it came from.

    The same (topic, partition, offset) may be on the topic twice after a crash; it is one rejection.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    schema_version: Literal[1] = 1
    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)
    timestamp: AwareDatetime = Field(description="The record's own: when it was produced.")
    reason: str = Field(max_length=2048, description="One sentence for the person who mends the producer.")
    key: Base64Bytes | None = Field(default=None, strict=False, description="Base64 in JSON.")
    value: Base64Bytes | None = Field(
        default=None, strict=False, description="Base64 in JSON; null was null."
    )
