"""`python -m faults --seeds 20 --seed0 1`: plays them; exit code 1, and a line for every seed that was not exact."""

import argparse
import sys
import tempfile
from pathlib import Path

from faults.arena import Arena
from faults.schedule import make_schedule


def main() -> int:
    """Play the seeds one after the other."""
    options = argparse.ArgumentParser(prog="make faults", description=__doc__)
    options.add_argument("--seeds", type=int, default=20, help="how many schedules")
    options.add_argument("--seed0", type=int, default=1, help="the first seed")
    options.add_argument("--keep", type=Path, help="a folder for data and logs, which is kept")
    chosen = options.parse_args()
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="tokentide-faults-"))
    failed = []
    with Arena(folder).open() as arena:
        for seed in range(chosen.seed0, chosen.seed0 + chosen.seeds):
            outcome = arena.play(make_schedule(seed))
            print(outcome, flush=True)
            if outcome.problems:
                failed.append(seed)
                print(outcome.schedule, flush=True)
                print(f"  again with: make faults SEEDS=1 SEED0={seed}   logs: {folder}", flush=True)
    print(f"{chosen.seeds - len(failed)} of {chosen.seeds} seeds were exact; failed: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
