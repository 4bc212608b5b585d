"""`python -m faults --seeds 20 --seed0 1 --jobs 2`: plays them; exit code 1 when one was not exact."""

import argparse
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faults.arena import Arena
from faults.run import Outcome
from faults.schedule import Schedule, make_schedule


class Tournament:
    """Plays schedules on several arenas at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.outcomes: list[Outcome] = []
        self.crashes: list[Exception] = []

    def play(self, schedules: Sequence[Schedule], jobs: int) -> None:
        """Play all of them; those on three Kafka nodes last, on half as many arenas."""
        for nodes, arenas in ((1, jobs), (3, max(1, jobs // 2))):
            waiting = queue.SimpleQueue[Schedule]()
            chosen = [schedule for schedule in schedules if schedule.nodes == nodes]
            for schedule in chosen:
                waiting.put(schedule)
            threads = [
                threading.Thread(target=self._serve, args=(nodes, number, waiting))
                for number in range(min(arenas, len(chosen)))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _serve(self, nodes: int, number: int, waiting: "queue.SimpleQueue[Schedule]") -> None:
        try:
            with Arena(self._folder / f"arena-{nodes}-{number}", nodes).open() as arena:
                while not waiting.empty():
                    try:
                        schedule = waiting.get_nowait()
                    except queue.Empty:
                        return
                    self._note(arena.play(schedule))
        except Exception as error:  # of one arena; the others go on, and the summary tells
            self.crashes.append(error)

    def _note(self, outcome: Outcome) -> None:
        with self._lock:
            self.outcomes.append(outcome)
            print(outcome, flush=True)
            print("  met " + _counted(outcome.met) + "; kills met " + _counted(outcome.struck_at), flush=True)
            if outcome.problems:
                print(outcome.schedule, flush=True)
                again = f"make faults SEEDS=1 SEED0={outcome.schedule.seed}"
                print(f"  again with: {again}   logs: {self._folder}", flush=True)


def main() -> int:
    """Play the seeds and print a line for each, then what they met."""
    options = argparse.ArgumentParser(prog="make faults", description=__doc__)
    options.add_argument("--seeds", type=int, default=20, help="how many schedules")
    options.add_argument("--seed0", type=int, default=1, help="the first seed")
    options.add_argument("--jobs", type=int, default=1, help="how many at once, each with servers of its own")
    options.add_argument(
        "--nodes", type=int, choices=(1, 3), help="only those of them on so many Kafka nodes"
    )
    options.add_argument("--keep", type=Path, help="a folder for data and logs, which is kept")
    options.add_argument("--show", action="store_true", help="print the schedules, and play nothing")
    chosen = options.parse_args()
    drawn = (make_schedule(seed) for seed in range(chosen.seed0, chosen.seed0 + chosen.seeds))
    schedules = [schedule for schedule in drawn if chosen.nodes in (None, schedule.nodes)]
    if chosen.show:
        print(*schedules, sep="\n")
        return 0
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="tokentide-faults-"))
    tournament, started = Tournament(folder), time.monotonic()
    tournament.play(schedules, chosen.jobs)
    _summarize(tournament, schedules, time.monotonic() - started)
    if tournament.crashes or any(outcome.problems for outcome in tournament.outcomes):
        return 1
    if chosen.keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _summarize(tournament: Tournament, schedules: Sequence[Schedule], seconds: float) -> None:
    outcomes = tournament.outcomes
    failed = sorted(outcome.schedule.seed for outcome in outcomes if outcome.problems)
    met = sum((outcome.met for outcome in outcomes), Counter[str]())
    repeated = sum(outcome.repeated_alerts for outcome in outcomes)
    print("faults met: " + _counted(met))
    struck = sum((outcome.struck_at for outcome in outcomes), Counter[str]())
    print("kills met: " + _counted(struck))
    print(
        f"{sum(outcome.schedule.events for outcome in outcomes)} events, "
        f"{sum(outcome.restarts for outcome in outcomes)} restarts, {repeated} repeated alerts, "
        f"{sum(outcome.late for outcome in outcomes)} late rows, "
        f"{sum(outcome.own_prices for outcome in outcomes)} rows under own prices, {seconds:.0f} s"
    )
    for crash in tournament.crashes:
        print(f"an arena gave up: {type(crash).__name__}: {crash}")
    exact = len(outcomes) - len(failed)
    print(f"{exact} of {len(schedules)} seeds were exact; failed: {failed or 'none'}")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "nothing"


if __name__ == "__main__":
    sys.exit(main())
