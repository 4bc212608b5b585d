"""The fast form of `usage.spend`: `SpendUpdate` as msgspec decodes it."""

from typing import Annotated

from tokentide.schemas.spend import Period, Scope

try:
    import msgspec
except ImportError as error:
    raise ImportError("totals need msgspec: pip install 'tokentide[pipeline]'") from error

__all__ = ["Total", "Update", "decode_update"]

Whole = Annotated[int, msgspec.Meta(ge=0)]


class Total(msgspec.Struct, gc=False):
    """`SpendTotal`."""

    period: Period
    period_start: int
    requests: int
    input_tokens: int
    output_tokens: int
    cost_pico_usd: int
    unpriced_requests: int


class Update(msgspec.Struct):
    """`SpendUpdate`."""

    source_partition: Whole
    scope: Scope | None = None
    scope_id: str = ""
    version: Whole = 0
    complete_up_to: int | None = None
    event_time: int | None = None
    adjustment: str = ""
    totals: list[Total] = []


_DECODER = msgspec.json.Decoder(Update, strict=False)  # money is a string in JSON


def decode_update(value: bytes) -> Update:
    """Return one record of `usage.spend`; raises msgspec.MsgspecError for anything else."""
    return _DECODER.decode(value)
