"""What goes wrong, and when: the same seed gives the same schedule."""

import random
from dataclasses import dataclass
from typing import Literal

__all__ = ["Fault", "Kind", "Schedule", "make_schedule"]

Kind = Literal[
    "kill",  # SIGKILL; it is started again
    "term",  # SIGTERM; it is started again
    "freeze",  # SIGSTOP, and SIGCONT later
    "add",  # one more worker
    "remove",  # a worker ends for good
    "refuse",  # ClickHouse answers 500 or 503
    "hang",  # ClickHouse does not answer
    "lose",  # ClickHouse commits, and its answer is lost
    "cut",  # the connection to ClickHouse breaks in the middle of an insert
    "full",  # its disk is full
    "skew",  # its clock is wrong, from its start on
    "elect",  # Kafka's leaders move back to where they were before nodes died
    "reassign",  # partitions get other preferred leaders, and those lead
    "price",  # an own price is set or withdrawn
    "budget",  # a limit is raised or lowered
    "compact",  # the changelogs are compacted beside all else, then all meters are killed
]

METERS = ("meter-1", "meter-2", "meter-3")
SINKS = ("sink-1", "sink-2")
PRODUCER = "producer"
CLICKHOUSE = "clickhouse"
NETWORK: tuple[Kind, ...] = ("refuse", "hang", "lose", "cut")

_MOST_FAULTS = 10
# The session timeout is 6 s: some come back in time, some as zombies, one in eight long after. Servers stumble.
_LONGEST_FREEZES = (*(15.0,) * 7, 40.0)
_LONGEST_STUMBLE = 3.0
_MODELS = (
    "openai/gpt-4o",
    "openai/gpt-4o-mini",
    "anthropic/claude-sonnet-4-5",
    "openai/gpt-that-nobody-knows",
)


@dataclass(frozen=True)
class Fault:
    """One thing that happens `at` seconds after the first event; some last for `seconds`.

    `detail` is the new limit of a budget, the HTTP status that ClickHouse answers, the seconds that a clock is ahead,
    the place in the list of replicas that leads from now on, or an own price: USD for a million tokens and for a
    request, from so many minutes before the end of the traffic on.
    """

    at: float
    kind: Kind
    target: str
    seconds: float = 0.0
    detail: str = ""

    @property
    def name(self) -> str:
        """The kind and what it hits, without a number: what a summary counts."""
        return (
            self.kind if self.kind in ("budget", "price") else f"{self.kind} {self.target.partition('-')[0]}"
        )

    def __str__(self) -> str:
        detail = f" {self.detail}" if self.detail else ""
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:5.1f} s {self.kind} {self.target}{detail}{lasts}"


@dataclass(frozen=True)
class Schedule:
    """A run: how many Kafka nodes it meets, its traffic and its faults."""

    seed: int
    nodes: int
    events: int
    per_second: float
    faults: tuple[Fault, ...]

    @property
    def clocks(self) -> dict[str, int]:
        """Whose clock is ahead, by how many seconds."""
        return {fault.target: int(fault.detail) for fault in self.faults if fault.kind == "skew"}

    @property
    def compacts(self) -> bool:
        """Whether the topics must be such that a compaction happens within half a minute."""
        return any(fault.kind == "compact" for fault in self.faults)

    def __str__(self) -> str:
        kafka = "1 Kafka node" if self.nodes == 1 else f"{self.nodes} Kafka nodes"
        lines = [f"seed {self.seed}: {self.events} events at {self.per_second:.0f}/s, {kafka}"]
        return "\n".join([*lines, *(f"  {fault}" for fault in self.faults)])


def make_schedule(seed: int, *, seconds: float = 14.0) -> Schedule:
    """Return the schedule of a seed: four to ten faults within `seconds` of traffic.

    Meters get most of them, and some come in bursts: a kill a moment after a kill meets recovery and rebalance.
    One seed in four meets three Kafka nodes; one in four a compaction; in one of three some clocks are wrong.
    """
    draw = _Draw(seed)
    chance = draw.chance
    per_second = chance.choice((400.0, 800.0, 1600.0))
    moment = chance.uniform(0.5, 3.0)
    faults = draw.clocks()
    most = len(faults) + _MOST_FAULTS
    while moment < seconds and len(faults) < most:
        faults.append(draw.fault(moment))
        moment += chance.choice((0.05, 0.4, 1.5, 3.0, 4.0)) * chance.uniform(0.5, 1.5)
    if draw.compacts:
        faults.append(Fault(chance.uniform(3.0, seconds), "compact", "changelogs"))
    faults.sort(key=lambda fault: fault.at)
    return Schedule(seed, draw.nodes, int(per_second * seconds), per_second, tuple(faults))


class _Draw:
    """The chances of a seed, and which workers are there at this point of the schedule."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.nodes = 3 if self.chance.random() < 0.25 else 1
        self.compacts = self.nodes == 1 and self.chance.random() < 0.33
        self._meters = list(METERS)
        self._sinks = list(SINKS)
        self._prices: list[Fault] = []
        self._added = 0

    def fault(self, moment: float) -> Fault:
        """Return the next fault."""
        draw = self.chance.random()
        if draw < 0.40:
            return self._signal(moment, self.chance.choice(self._meters))
        if draw < 0.53:
            return self._signal(moment, self.chance.choice(self._sinks))
        if draw < 0.58:
            return self._signal(moment, PRODUCER)
        if draw < 0.69:
            return self._signal(moment, self._server())
        if draw < 0.78:
            kind = self.chance.choice(NETWORK)
            status = str(self.chance.choice((500, 503))) if kind == "refuse" else ""
            return Fault(moment, kind, CLICKHOUSE, self.chance.uniform(0.5, 6.0), status)
        if draw < 0.83:
            return self._join_or_leave(moment)
        if draw < 0.87:
            target = self.chance.choice((self._sinks[0], self.chance.choice(self._meters)))
            return Fault(moment, "full", target, self.chance.uniform(0.5, 5.0))
        if draw < 0.91 and self.nodes > 1:
            if self.chance.random() < 0.5:
                return Fault(moment, "elect", "kafka")
            return Fault(moment, "reassign", "kafka", detail=str(self.chance.choice((1, 2))))
        if draw < 0.96:
            return self._price(moment)
        limit = str(self.chance.choice((2, 4, 8, 16)))
        return Fault(moment, "budget", self.chance.choice(("team-day", "model-day")), detail=limit)

    def clocks(self) -> list[Fault]:
        """Return whose clock is wrong, by one minute to thirty."""
        if self.chance.random() > 0.33:
            return []
        wrong = self.chance.sample((*METERS, *SINKS), self.chance.choice((1, 2, 3)))
        seconds = [self.chance.randrange(60, 1800) * self.chance.choice((-1, 1)) for _ in wrong]
        return [
            Fault(0.0, "skew", name, detail=str(ahead)) for name, ahead in zip(wrong, seconds, strict=True)
        ]

    def _price(self, moment: float) -> Fault:
        """Return a new price of a model, or take the last one back."""
        chance = self.chance
        if self._prices and chance.random() < 0.25:
            last = self._prices.pop()
            return Fault(moment, "price", last.target, detail=f"{last.detail} withdrawn=1")
        detail = f"minutes={chance.choice((-43200, -120, -60))}"
        for name in ("input", "output"):
            detail += f" {name}={chance.randrange(1, 20 * 10**6) / 10**6:.6f}"
        if chance.random() < 0.5:
            detail += f" cached={chance.randrange(0, 10**6) / 10**6:.6f}"
        if chance.random() < 0.5:
            detail += f" request={chance.randrange(1, 10**6) / 10**9:.9f}"
        self._prices.append(Fault(moment, "price", chance.choice(_MODELS), detail=detail))
        return self._prices[-1]

    def _server(self) -> str:
        if self.chance.random() < 0.4:
            return CLICKHOUSE
        return f"kafka-{self.chance.randrange(self.nodes) + 1}"

    def _signal(self, moment: float, target: str) -> Fault:
        kind: Kind = self.chance.choice(("kill", "kill", "term", "freeze"))
        is_server = target.startswith(("kafka", CLICKHOUSE))
        if kind == "freeze":
            longest = _LONGEST_STUMBLE if is_server else self.chance.choice(_LONGEST_FREEZES)
            return Fault(moment, kind, target, self.chance.uniform(0.5, longest))
        # How long a Kafka node stays away; all others are started again at once.
        away = self.chance.uniform(0.2, 6.0) if target.startswith("kafka") else 0.0
        return Fault(moment, kind, target, away)

    def _join_or_leave(self, moment: float) -> Fault:
        workers, name = (self._meters, "meter") if self.chance.random() < 0.7 else (self._sinks, "sink")
        if len(workers) > 1 and self.chance.random() < 0.5:
            gone = self.chance.choice(workers)
            workers.remove(gone)
            return Fault(moment, "remove", gone)
        self._added += 1
        new = f"{name}-{10 + self._added}"
        workers.append(new)
        return Fault(moment, "add", new)
