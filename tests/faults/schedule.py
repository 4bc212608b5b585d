"""What goes wrong, and when: the same seed gives the same schedule."""

import random
from dataclasses import dataclass
from typing import Literal

__all__ = ["Fault", "Schedule", "make_schedule"]

Kind = Literal["kill", "term", "freeze", "budget"]

METERS = ("meter-1", "meter-2", "meter-3")
SINKS = ("sink-1", "sink-2")
SERVERS = ("kafka", "clickhouse")


@dataclass(frozen=True)
class Fault:
    """One thing that happens `at` seconds after the first event; a freeze ends after `seconds`."""

    at: float
    kind: Kind
    target: str
    seconds: float = 0.0

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:5.1f} s {self.kind} {self.target}{lasts}"


@dataclass(frozen=True)
class Schedule:
    """A run: its traffic and its faults."""

    seed: int
    events: int
    per_second: float
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.events} events at {self.per_second:.0f}/s"]
        return "\n".join([*lines, *(f"  {fault}" for fault in self.faults)])


def make_schedule(seed: int, *, seconds: float = 14.0) -> Schedule:
    """Return the schedule of a seed: four to nine faults within `seconds` of traffic.

    Meters get most of them, and some come in bursts: a kill a moment after a kill meets recovery and rebalance.
    """
    chance = random.Random(seed)
    per_second = chance.choice((800.0, 1500.0, 2500.0))
    faults: list[Fault] = []
    moment = chance.uniform(0.5, 3.0)
    while moment < seconds:
        faults.append(_fault(chance, moment))
        moment += chance.choice((0.05, 0.4, 1.5, 3.0, 4.0)) * chance.uniform(0.5, 1.5)
    return Schedule(seed, int(per_second * seconds), per_second, tuple(faults[:9]))


def _fault(chance: random.Random, moment: float) -> Fault:
    draw = chance.random()
    if draw < 0.07:
        return Fault(moment, "budget", "team-day")
    if draw < 0.60:
        target = chance.choice(METERS)
    elif draw < 0.82:
        target = chance.choice(SINKS)
    else:
        target = chance.choice(SERVERS)
    kind: Kind = chance.choice(("kill", "kill", "term", "freeze"))
    if kind == "freeze":
        # The session timeout is 6 s: some come back in time, some as zombies. A server only stumbles.
        longest = 3.0 if target in SERVERS else 15.0
        return Fault(moment, kind, target, chance.uniform(0.5, longest))
    return Fault(moment, kind, target)
