"""A file of ids answers like a dict, however the digests fall."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokentide.streams.seen_run import Digests, Run, merged, sorted_rows, write_run

# Digests by nature are evenly spread; these are not: equal prefixes, and a digest that stands inside of two others.
halves = st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
digest = st.builds(lambda high, low: high.to_bytes(8, "little") + low.to_bytes(8, "little"), halves, halves)


def run_of(path: Path, ids: dict[bytes, int]) -> Run:
    write_run(path, len(ids), [sorted_rows(ids)])
    return Run(path, 0, 0, len(ids))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.dictionaries(digest, st.integers(0, 2**62), max_size=300), min_size=1, max_size=4),
    st.lists(digest, max_size=50),
)
def test_a_merged_run_finds_what_its_parts_hold_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, parts: list[dict[bytes, int]], others: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    known: dict[bytes, int] = {}
    for part in parts:
        for key in known.keys() & part.keys():
            del part[key]
        known |= part
    runs = [run_of(folder / str(number), part) for number, part in enumerate(parts) if part]
    write_run(folder / "all", len(known), merged(runs) if runs else [])
    whole = Run(folder / "all", 0, 1, len(known))

    sought = [*known, *others]
    found = {sought[place]: offset for place, offset in whole.find(Digests(sought))}

    assert found == {key: offset for key, offset in known.items() if key in sought}


def test_large_runs_are_merged_in_blocks_of_bounded_size(tmp_path: Path) -> None:
    count = 300_000
    runs = []
    for number in range(2):
        names = [f"{number}-{place}" for place in range(count)]
        ids = dict(zip(Digests.of(names).values, range(count), strict=True))
        runs.append(run_of(tmp_path / str(number), ids))

    blocks = list(merged(runs))

    assert max(map(len, blocks)) < 100_000
    assert sum(map(len, blocks)) == 2 * count
    first = np.concatenate([block[:, 0] for block in blocks])
    assert bool((first[1:] >= first[:-1]).all())
    write_run(tmp_path / "all", 2 * count, blocks)
    whole = Run(tmp_path / "all", 0, 1, 2 * count)
    names = ["1-0", "no", "0-299999"]
    assert sorted(whole.find(Digests.of(names))) == [(0, 0), (2, count - 1)]


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 1, [sorted_rows({b"0123456789abcdef": 7})])
    (tmp_path / "run").write_bytes((tmp_path / "run").read_bytes()[:-1])

    with pytest.raises(ValueError, match="is not whole"):
        Run(tmp_path / "run", 0, 0, 1)
