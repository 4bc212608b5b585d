"""Eight schedules that hold every kind of fault, each exact to the pico-dollar; more: `make faults`."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import get_args

import pytest
from faults.arena import Arena
from faults.schedule import METERS, SINKS, Kind, make_schedule
from hypothesis import given
from hypothesis.strategies import integers

# Chosen so that together they hold every kind of fault; those on three Kafka nodes last.
SEEDS = (413, 1704, 2068, 2745, 6, 7, 1, 4)


@pytest.fixture(scope="module")
def arenas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Arena]]:
    """Kafka and ClickHouse for all schedules with as many nodes, started at the first."""
    with ExitStack() as stack:
        running: dict[int, Arena] = {}

        def arena(nodes: int) -> Arena:
            if nodes not in running:
                folder = tmp_path_factory.mktemp(f"faults-{nodes}")
                running[nodes] = stack.enter_context(Arena(folder, nodes).open())
            return running[nodes]

        yield arena


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_and_nothing_counts_twice(arenas: Callable[[int], Arena], seed: int) -> None:
    schedule = make_schedule(seed)

    outcome = arenas(schedule.nodes).play(schedule)

    assert outcome.problems == [], f"{outcome}\n{schedule}\nagain with: make faults SEEDS=1 SEED0={seed}"


def test_the_same_seed_makes_the_same_schedule_and_another_one_another() -> None:
    assert make_schedule(5) == make_schedule(5)
    assert make_schedule(5) != make_schedule(6)
    assert all(make_schedule(seed).faults for seed in range(1, 200))


def test_the_schedules_of_ci_hold_every_fault_that_any_schedule_holds() -> None:
    def met(seeds: Iterable[int]) -> set[str]:
        return {fault.name for seed in seeds for fault in make_schedule(seed).faults}

    assert {fault.partition(" ")[0] for fault in met(range(1, 300))} == set(get_args(Kind))
    assert met(SEEDS) == met(range(1, 300))
    assert {make_schedule(seed).nodes for seed in SEEDS} == {1, 3}


@given(seed=integers(0, 10**6))
def test_a_schedule_makes_sense(seed: int) -> None:
    schedule = make_schedule(seed)
    there = {*METERS, *SINKS}

    assert [fault.at for fault in schedule.faults] == sorted(fault.at for fault in schedule.faults)
    for fault in schedule.faults:
        assert f"{fault.kind} {fault.target}" in str(schedule)
        if fault.kind == "add":
            assert fault.target not in there
            there.add(fault.target)
        elif fault.target.startswith(("meter", "sink")):
            assert fault.target in there
        if fault.kind == "remove":
            there.remove(fault.target)
    assert {name.partition("-")[0] for name in there} == {"meter", "sink"}
