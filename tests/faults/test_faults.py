"""Eight schedules of kills, frozen workers and restarts, each exact to the pico-dollar; more: `make faults`."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from faults.arena import Arena
from faults.schedule import make_schedule

SEEDS = range(1, 9)


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
    kinds = {
        (fault.kind, fault.target.partition("-")[0])
        for seed in range(1, 60)
        for fault in make_schedule(seed).faults
    }
    assert {
        (kind, name)
        for kind in ("kill", "term", "freeze")
        for name in ("meter", "sink", "kafka", "clickhouse")
    } <= kinds
