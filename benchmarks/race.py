"""tokentide against what people would use instead: same topic, same events, same answers, one machine.

    make bench            # a quarter of an hour on 2 idle cores, longer when the environments have to be made first
    make bench QUICK=1    # one round of fewer events
    .venv/bin/python benchmarks/race.py [--quick] [--rounds N] [--events N] [--only NAME ...]

Each round runs every contender once, each round in another order, so that what changes on the machine in the
meantime meets all of them. docs/performance.md says what is inside the clock and how to read the table.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contender
import environments
import pipeline
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from environments import EnvironmentFailedError
from figures import Run
from latency import RATE, latency
from leftovers import Leftovers
from load import Course, fill
from picture import draw
from report import NAIVE, Race, document, stamp, table

from tokentide.console.stack import Stack
from tokentide.schemas import TokentideError

RESULTS = Path(__file__).parent / "results"
_PARTITIONS = 8
_USERS = 1_000
# What costs a millisecond an event gets a smaller topic of the same shape.
_SLOW = frozenset({NAIVE})
# Below this share of the rate the latency is not that of the rate.
_REACHED = 0.95
_SLOW_TOPIC = "usage.events.small"


@dataclass(frozen=True)
class Size:
    """How much is done."""

    rounds: int
    events: int
    slow_events: int
    latency_seconds: int
    track_seconds: int


FULL = Size(rounds=5, events=200_000, slow_events=20_000, latency_seconds=20, track_seconds=10)
QUICK = Size(rounds=1, events=150_000, slow_events=8_000, latency_seconds=10, track_seconds=3)


def main() -> None:
    """Run the race, print the table, write the results; the exit code is 1 when anything failed."""
    chosen = _options()
    # So that a run that is ended ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    standard = QUICK if chosen.quick else FULL
    size = Size(
        chosen.rounds or standard.rounds,
        chosen.events or standard.events,
        min(chosen.events or standard.slow_events, standard.slow_events),
        standard.latency_seconds,
        standard.track_seconds,
    )
    # Settings of the shell are for another pipeline.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TOKENTIDE_")}
    names = [name for name in environments.names() if not chosen.only or name in chosen.only]
    race = Race(
        size.rounds,
        chosen.quick,
        {
            "events": size.events,
            "warm_events": size.events // 10,
            "slow_events": size.slow_events,
            "users": _USERS,
            "partitions": _PARTITIONS,
        },
    )
    with tempfile.TemporaryDirectory(prefix="tokentide-bench-") as path:
        folder = Path(path)
        commands = _commands(names, race)
        servers = Stack(folder / "servers", meters=0, sinks=0, partitions=_PARTITIONS, variables=ours)
        try:
            say("starting Kafka and ClickHouse, filling the topics")
            servers.start_servers()
            _compete(race, size, commands, servers, folder, ours, chosen.limit)
            if not chosen.only:
                _beside(race, size, servers, folder, ours)
        finally:
            servers.stop()
    result = document(race, stamp())
    if not chosen.only:
        _write(result)
    print(table(result))
    sys.exit(1 if result["problems"] else 0)


def say(words: str) -> None:
    """Tell what goes on; the table alone goes to standard output."""
    print(words, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="one round of fewer events")
    options.add_argument("--rounds", type=int)
    options.add_argument("--events", type=int)
    options.add_argument(
        "--only", nargs="+", metavar="NAME", help="these and tokentide; no latency, no track(), no results/"
    )
    options.add_argument("--limit", type=float, default=300.0, help="seconds for one run of one contender")
    return options.parse_args()


def _commands(names: list[str], race: Race) -> dict[str, list[str]]:
    """Make the environments; one that fails is a problem of its contender."""
    commands = {}
    for name in names:
        say(f"environment of {name}")
        try:
            commands[name] = [str(environments.make(name)), str(environments.CONTENDERS / f"{name}.py")]
        except EnvironmentFailedError as error:
            race.runs[name] = [Run(problem=str(error))]
    return commands


def _compete(
    race: Race,
    size: Size,
    commands: dict[str, list[str]],
    servers: Stack,
    folder: Path,
    ours: dict[str, str],
    limit: float,
) -> None:
    """Run all rounds. A contender that failed is not run again: its problem is in the table already."""
    course = _course(servers, servers.settings.topics.events, size.events)
    slow = _course(servers, _SLOW_TOPIC, size.slow_events) if _SLOW & commands.keys() else course

    leftovers = Leftovers(servers.bootstrap)

    def run(name: str, path: Path) -> dict[str, Run]:
        try:
            leftovers.clear(name)
            if name == pipeline.WHOLE:
                came = pipeline.run(course, servers, path, ours, limit)
            else:
                over = slow if name in _SLOW else course
                came = {name: contender.run(commands[name], over, servers, path, limit)}
            leftovers.gather(name)
        except Exception as error:  # whatever one contender does, the others run
            return {name: Run(problem=f"{type(error).__name__}: {error}")}
        return came

    for number in range(size.rounds):
        order = [*commands, pipeline.WHOLE]
        for name in order[number % len(order) :] + order[: number % len(order)]:
            if any(each.problem for each in race.runs.get(name, [])):
                continue
            came = run(name, folder / f"{name}_{number + 1}")
            for part, each in came.items():
                race.runs.setdefault(part, []).append(each)
            outcome = came[name].problem or f"{came[name].us_per_event:,.1f} µs an event"
            say(f"round {number + 1}  {name:14} {outcome}")


def _course(servers: Stack, topic: str, events: int) -> Course:
    admin = AdminClient({"bootstrap.servers": servers.bootstrap})
    if topic not in admin.list_topics(timeout=30).topics:
        for created in admin.create_topics([NewTopic(topic, _PARTITIONS)]).values():
            created.result()
    return fill(servers.bootstrap, topic, events, events // 10, _USERS)


def _beside(race: Race, size: Size, servers: Stack, folder: Path, ours: dict[str, str]) -> None:
    """Measure latency and track()."""
    say("latency at a steady rate")
    stack = pipeline.workers(servers, folder / "latency", "latency.events", ours)
    try:
        stack.start()
        race.latency = latency(stack, RATE, size.latency_seconds, _USERS)
        if (reached := race.latency["latency_events_per_second"]) < _REACHED * RATE:
            race.problems.append(f"latency: only {reached:,} of {RATE:,} events a second could be sent")
    except (TokentideError, RuntimeError) as error:
        race.problems.append(f"latency: {error}")
    finally:
        stack.stop()
    say("track()")
    # A process of its own: our threads would be in its way.
    command = [
        sys.executable,
        str(Path(__file__).with_name("track.py")),
        "--json",
        "--broker",
        servers.bootstrap,
    ]
    done = subprocess.run(
        [*command, "--seconds", str(size.track_seconds)],
        capture_output=True,
        text=True,
        env=ours,
        check=False,
    )
    if done.returncode:
        race.problems.append(f"track: {done.stderr.strip()[-300:]}")
    else:
        race.track = json.loads(done.stdout)


def _write(result: dict[str, Any]) -> None:
    """Write results/latest.json, the same under its date, and the picture."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    name = f"{result['date'][:16].replace(':', '')}-{result['commit']}"
    for path in (RESULTS / "latest.json", RESULTS / f"{name}.json"):
        path.write_text(text)
    (RESULTS / "latest.svg").write_text(draw(result))


if __name__ == "__main__":
    main()
