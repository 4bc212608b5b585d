"""A trace like the real one, for whoever does not have it at hand."""

import itertools
import random
from bisect import bisect_right
from datetime import datetime, timedelta
from pathlib import Path

from tokentide.schemas import SettingsError

__all__ = ["generate_trace"]

ROWS = 19_366
_START = datetime(2023, 11, 16, 18, 15, 46)
_START_TICKS = 6_805_900  # of 100 ns, after _START

# Fitted once to the real trace: values at these levels, with straight lines between them.
_LEVELS = (
    *(0.0, 0.001, 0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.43, 0.46, 0.5, 0.55, 0.6),
    *(0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.94, 0.97, 0.99, 0.995, 0.999, 1.0),
)
_INPUT_TOKENS = (
    *(2.0, 8.0, 29.0, 161.0, 181.0, 207.0, 372.0, 387.0, 396.0, 403.0, 414.0, 703.0, 946.0, 994.0),
    *(1020.0, 1045.0, 1071.0, 1097.0, 1130.0, 1189.0, 1315.0, 1876.0, 2734.0, 4079.0, 4090.0, 4142.0),
    *(4831.0, 6179.0, 14050.0),
)
_OUTPUT_TOKENS = (
    *(7.0, 12.0, 16.0, 32.0, 41.0, 54.0, 67.0, 77.0, 85.0, 91.0, 96.0, 103.0, 108.0, 116.0, 129.0, 151.0),
    *(177.0, 217.0, 384.0, 395.0, 400.0, 411.0, 424.0, 442.0, 509.0, 601.0, 643.0, 954.0, 1000.0),
)
_GAP_SECONDS = (
    *(0.0, 0.00001, 0.0005, 0.0025, 0.0063, 0.0161, 0.0264, 0.0365, 0.0483, 0.0607, 0.0735, 0.0873),
    *(0.0957, 0.1048, 0.1184, 0.1376, 0.1587, 0.1832, 0.2136, 0.2467, 0.2888, 0.3459, 0.4207, 0.5255),
    *(0.6732, 0.8897, 1.0342, 1.4112, 4.3146),
)
# How input and output hang together: rows of a thousand per decile of input (down) and of output (across).
_JOINT = (
    (8, 5, 4, 5, 12, 32, 35, 0, 0, 0),
    (20, 32, 17, 9, 7, 8, 8, 0, 0, 0),
    (1, 7, 26, 31, 24, 10, 1, 0, 0, 0),
    (2, 5, 23, 32, 25, 12, 2, 0, 0, 0),
    (4, 4, 6, 5, 6, 2, 7, 24, 21, 20),
    (1, 1, 1, 1, 0, 0, 9, 29, 30, 28),
    (1, 1, 1, 1, 1, 0, 11, 28, 27, 31),
    (4, 4, 2, 1, 2, 11, 16, 19, 21, 20),
    (14, 18, 13, 11, 15, 16, 10, 1, 1, 1),
    (44, 25, 8, 5, 8, 8, 2, 0, 0, 0),
)
_CELLS = [(row, column) for row in range(10) for column in range(10)]
_CELL_WEIGHTS = list(itertools.accumulate(_JOINT[row][column] for row, column in _CELLS))


def generate_trace(path: Path, rows: int = ROWS, seed: int = 0) -> None:
    """Write a CSV in the format of the Azure LLM inference trace, with the distribution of the real one.

    The same rows and seed give the same bytes. Quantiles of both token counts and of the time between
    calls, and the joint distribution of the two counts, were fitted to the conversation service of the
    "Azure LLM inference trace 2023" of AzurePublicDataset (https://github.com/Azure/AzurePublicDataset,
    CC-BY 4.0); cite P. Patel et al., "Splitwise: Efficient generative LLM inference using phase
    splitting", ISCA 2024. Calls are independent of each other: no daily or minute rhythm.

    Raises SettingsError when the file cannot be written or `rows` is below 1.
    """
    if rows < 1:
        raise SettingsError(f"a trace has at least 1 row, not {rows}")
    chance = random.Random(seed)
    ticks = _START_TICKS
    try:
        with path.open("w", encoding="ascii", newline="\r\n") as file:
            file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
            for _ in range(rows):
                row, column = _CELLS[bisect_right(_CELL_WEIGHTS, chance.random() * _CELL_WEIGHTS[-1])]
                input_tokens = round(_value_at(_INPUT_TOKENS, (row + chance.random()) / 10))
                output_tokens = round(_value_at(_OUTPUT_TOKENS, (column + chance.random()) / 10))
                seconds, fraction = divmod(ticks, 10**7)
                moment = _START + timedelta(seconds=seconds)
                file.write(f"{moment:%Y-%m-%d %H:%M:%S}.{fraction:07d},{input_tokens},{output_tokens}\n")
                ticks += round(_value_at(_GAP_SECONDS, chance.random()) * 10**7)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error.strerror or error}") from error


def _value_at(values: tuple[float, ...], level: float) -> float:
    """Return the quantile at the level, which is in [0, 1)."""
    above = bisect_right(_LEVELS, level)
    low, high = _LEVELS[above - 1], _LEVELS[above]
    return values[above - 1] + (values[above] - values[above - 1]) * (level - low) / (high - low)
