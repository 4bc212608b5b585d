"""A plan: the price of a call as integers, so that pricing costs a microsecond and not a `calc_price`."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

__all__ = ["Counts", "Parts", "Plan", "is_coherent", "learn_plan", "shape_of"]


class Counts(NamedTuple):
    """The counts of one call that can decide its price, by the names of UsageEvent."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    web_searches: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    cache_audio_read_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    input_characters: int = 0
    pages: int = 0
    images: int = 0
    audio_seconds: int | Decimal = 0


class Parts(NamedTuple):
    """What the parts of one call cost; no part is negative, and their sum is the total."""

    input: int
    cache: int
    output: int
    tool: int


# Counts that contain each other, at a point where none is larger than what contains it.
_POINT: tuple[int, ...] = (1000, 1000, 100, 100, 50, 50, 10, 100, 100, 50, 100, 100, 1000, 10)


def shape_of(counts: Counts) -> int:
    """Return which counts are above zero, as bits; input and output are left out, for they are always reported."""
    _, _, read, write, write_1h, reasoning, searches = counts[:7]
    shape = (
        (read > 0) << 2 | (write > 0) << 3 | (write_1h > 0) << 4 | (reasoning > 0) << 5 | (searches > 0) << 6
    )
    if any(counts[7:]):
        shape |= sum(1 << place for place, count in enumerate(counts[7:], 7) if count)
    return shape


def is_coherent(counts: Counts) -> Any:
    """Whether what is counted inside something else fits into it, overlaps apart; also for columns of counts.

    The catalogue refuses other counts, for the models that price the details.
    """
    tokens_in, tokens_out, read, write, write_1h, reasoning = counts[:6]
    in_audio, out_audio, read_audio, in_image, out_image = counts[7:12]
    return (
        (read + write + in_audio + in_image - read_audio <= tokens_in)
        & (write_1h <= write)
        & (read_audio <= read)
        & (read_audio <= in_audio)
        & (reasoning + out_audio + out_image <= tokens_out)
    )


class Plan(NamedTuple):
    """Pico-USD for one more of each count, in the order of Counts, and for the call itself."""

    coefficients: tuple[int, ...]
    per_call: int

    def parts(self, counts: Counts) -> Parts:
        """Return what the parts of a call with these counts cost; the columns of both give columns of parts."""
        per_in, per_out, per_read, per_write, per_1h, per_reasoning, per_search = self.coefficients[:7]
        in_audio, out_audio, read_audio, in_image, out_image, characters, pages = self.coefficients[7:]
        tokens_in, tokens_out, read, write, write_1h, reasoning, searches = counts[:7]
        # Audio read from the cache is input audio as well: its audio part belongs to the cache.
        fresh_audio = counts.input_audio_tokens - counts.cache_audio_read_tokens
        return Parts(
            (tokens_in - read - write) * per_in
            + fresh_audio * in_audio
            + counts.input_image_tokens * in_image
            + counts.input_characters * characters
            + counts.pages * pages,
            read * (per_in + per_read)
            + write * (per_in + per_write)
            + write_1h * per_1h
            + counts.cache_audio_read_tokens * (in_audio + read_audio),
            tokens_out * per_out
            + reasoning * per_reasoning
            + counts.output_audio_tokens * out_audio
            + counts.output_image_tokens * out_image,
            searches * per_search + self.per_call,
        )


def learn_plan(
    exact: Callable[[Counts], Decimal | None], low: int, high: int | None, shape: int
) -> Plan | None:
    """Return the plan of one shape, for input tokens above `low` and up to `high`.

    `exact` returns the price in USD, None for counts that the catalogue refuses. Returns None when the price
    is not linear there, or a coefficient is no whole pico-USD.
    """
    base = [count if place < 2 or shape >> place & 1 else 0 for place, count in enumerate(_POINT)]
    elsewhere = [2 * count + 7 * (place < 2) for place, count in enumerate(base)]
    base[0] += low
    elsewhere[0] += low
    if high is not None and elsewhere[0] > high:
        return None

    def pico(point: Sequence[int]) -> Decimal | None:
        price = exact(Counts(*point))
        return None if price is None else price.scaleb(12)

    start = pico(base)
    if start is None:
        return None
    coefficients = []
    for place, amount in enumerate(base):
        moved = pico([*base[:place], amount + 1, *base[place + 1 :]]) if amount else start
        if moved is None or moved - start != int(moved - start):
            return None
        coefficients.append(int(moved - start))
    per_call = start - sum(map(int.__mul__, coefficients, base))
    if per_call != int(per_call) or pico(elsewhere) != per_call + sum(
        map(int.__mul__, coefficients, elsewhere)
    ):
        return None
    return Plan(tuple(coefficients), int(per_call))
