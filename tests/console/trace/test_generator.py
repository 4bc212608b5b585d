"""The generated trace looks like the recorded one."""

import itertools
import statistics
from datetime import datetime
from pathlib import Path

import pytest
from support.traces import REAL_TRACE, WITHOUT_IT, trace_rows

from tokentide.console.trace import generate_trace
from tokentide.schemas import SettingsError

# Of the recorded trace, so that the comparison needs no file; a test below holds them against it.
ROWS = 19_366
INPUT_TOKENS, OUTPUT_TOKENS, SECONDS = 22_361_870, 4_088_665, 3501.7
LEVELS = (5, 10, 25, 50, 75, 90, 95)
INPUT_QUANTILES = (181, 207, 396, 1020, 1189, 2735, 4083)
OUTPUT_QUANTILES = (41, 54, 85, 129, 395, 424, 451)
GAP_QUANTILES = (0.0063, 0.0161, 0.0483, 0.1184, 0.2467, 0.4208, 0.5653)
RANK_CORRELATION = 0.073


class Profile:
    """What is compared: quantiles of both counts and of the time between calls, and how the counts hang together."""

    def __init__(self, path: Path) -> None:
        rows = trace_rows(path)
        moments = [datetime.fromisoformat(row.moment) for row in rows]
        inputs, outputs = [row.input_tokens for row in rows], [row.output_tokens for row in rows]
        gaps = [(after - before).total_seconds() for before, after in itertools.pairwise(moments)]
        self.rows = len(rows)
        self.sums = (sum(inputs), sum(outputs), sum(gaps))
        self.quantiles = (quantiles(inputs), quantiles(outputs), quantiles(gaps))
        self.rank_correlation = statistics.correlation(ranks(inputs), ranks(outputs))


def quantiles(values: list[int] | list[float]) -> list[float]:
    cuts = statistics.quantiles(values, n=100)
    return [cuts[level - 1] for level in LEVELS]


def ranks(values: list[int]) -> list[int]:
    ranks = [0] * len(values)
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        ranks[index] = rank
    return ranks


@pytest.fixture(scope="module")
def profile(generated_trace: Path) -> Profile:
    return Profile(generated_trace)


def test_it_has_as_many_rows_and_about_as_many_tokens_and_seconds(profile: Profile) -> None:
    assert profile.rows == ROWS
    assert profile.sums == pytest.approx((INPUT_TOKENS, OUTPUT_TOKENS, SECONDS), rel=0.02)


def test_its_quantiles_are_those_of_the_recorded_one(profile: Profile) -> None:
    inputs, outputs, gaps = profile.quantiles

    assert inputs == pytest.approx(INPUT_QUANTILES, rel=0.05)
    assert outputs == pytest.approx(OUTPUT_QUANTILES, rel=0.05)
    assert gaps == pytest.approx(GAP_QUANTILES, rel=0.05)


def test_long_questions_get_answers_like_those_of_the_recorded_one(profile: Profile) -> None:
    assert profile.rank_correlation == pytest.approx(RANK_CORRELATION, abs=0.03)


@pytest.mark.skipif(not REAL_TRACE.exists(), reason=WITHOUT_IT)
def test_the_numbers_above_are_those_of_the_recorded_trace() -> None:
    recorded = Profile(REAL_TRACE)

    assert recorded.rows == ROWS
    assert recorded.sums == pytest.approx((INPUT_TOKENS, OUTPUT_TOKENS, SECONDS), rel=1e-4)
    for found, written in zip(
        recorded.quantiles, (INPUT_QUANTILES, OUTPUT_QUANTILES, GAP_QUANTILES), strict=True
    ):
        assert found == pytest.approx(written, rel=0.01)
    assert recorded.rank_correlation == pytest.approx(RANK_CORRELATION, abs=0.001)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        generate_trace(tmp_path / name, rows=100, seed=seed)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_its_form_is_that_of_the_recorded_one(tmp_path: Path) -> None:
    generate_trace(tmp_path / "t.csv", rows=1)

    header, row, rest = (tmp_path / "t.csv").read_bytes().split(b"\r\n")

    assert header == b"TIMESTAMP,ContextTokens,GeneratedTokens"
    assert row.startswith(b"2023-11-16 18:15:46.6805900,")
    assert rest == b""


def test_wrong_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a trace has at least 1 row, not 0"):
        generate_trace(tmp_path / "t.csv", rows=0)
    with pytest.raises(SettingsError, match=r"cannot be written: No such file or directory"):
        generate_trace(tmp_path / "no" / "t.csv")
