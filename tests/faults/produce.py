"""A producing process that may be killed: `python -m faults.produce ...`; started again, it goes on at its last ack.

What it had sent and not written down yet is sent again: duplicates, as of any service that retries. It prints
`sent` when everything is acked, and then waits for its end.
"""

import argparse
import itertools
import signal
from datetime import datetime
from pathlib import Path

from support.traffic import HARD, new_producer, send, traffic

_BATCH = 250


def main() -> None:
    """Send the traffic of a seed, from where `--progress` says."""
    options = argparse.ArgumentParser()
    options.add_argument("--broker", required=True)
    options.add_argument("--topic", required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--events", type=int, required=True)
    options.add_argument("--per-second", type=float, required=True)
    options.add_argument("--end", type=datetime.fromisoformat, required=True)
    options.add_argument("--progress", type=Path, required=True)
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    done = int(chosen.progress.read_text()) if chosen.progress.exists() else 0
    records = itertools.islice(
        traffic(chosen.events, seed=chosen.seed, end=chosen.end, shares=HARD), done, None
    )
    producer = new_producer(chosen.broker)
    part = chosen.progress.with_suffix(".part")
    while count := send(
        itertools.islice(records, _BATCH),
        chosen.broker,
        chosen.topic,
        per_second=chosen.per_second,
        producer=producer,
    ):
        done += count
        part.write_text(str(done))
        part.replace(chosen.progress)
    print("sent", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
