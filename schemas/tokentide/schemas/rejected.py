"""Records and rows that were refused, as the topic `usage.rejected` holds them."""

from typing import Literal

from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field

__all__ = ["Rejected"]


class Rejected(BaseModel):
    """A record that was refused, or one row of a record: its bytes, the reason, and where it came from.

    A record of the events topic was refused by the meter; a row of another topic by ClickHouse. The same
    (topic, partition, offset, row) may be on the topic twice after a crash; it is one rejection, and the first
    counts. `retried_at` stands in a repeat that says that it was submitted again.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    schema_version: Literal[1] = 1
    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)
    row: int | None = Field(
        default=None,
        ge=0,
        description="Which row of the record: in usage.priced the offset of its event in usage.events, else its "
        "number. Null: the whole record.",
    )
    timestamp: AwareDatetime = Field(description="The record's own: when it was produced.")
    reason: str = Field(max_length=2048, description="One sentence for the person who mends the producer.")
    key: Base64Bytes | None = Field(default=None, strict=False, description="Base64 in JSON.")
    value: Base64Bytes | None = Field(
        default=None,
        strict=False,
        description="Base64 in JSON; null was null. Of a row: a record of it alone.",
    )
    retried_at: AwareDatetime | None = Field(
        default=None, description="When it was submitted again; null in the rejection itself."
    )

    @property
    def place(self) -> str:
        """The name of the rejection: `topic/partition/offset`, and `/row` where it is one row."""
        whole = f"{self.topic}/{self.partition}/{self.offset}"
        return whole if self.row is None else f"{whole}/{self.row}"
