"""Does memory stay flat? A stack under steady load, looked at every five seconds, as a picture.

    .venv/bin/python benchmarks/soak.py [--minutes 30] [--rate 2000] [--users 10000]

Writes `benchmarks/results/soak.json` and `soak.svg`: resident memory of each process over time. The same users come
again and again, so what grows grows with time and not with users. The event ids of the dedupe window are the one
thing that is meant to grow: they go to the meter's disk.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from load import event

from tokentide.console.lag import wait_until_settled
from tokentide.console.stack import Stack
from tokentide.producers import UsageProducer

RESULTS = Path(__file__).parent / "results"
PROCESSES = ("kafka", "clickhouse", "meter-1", "sink-1")
_LOOK_SECONDS = 5.0
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _RIGHT = 760, 320, 60, 50, 44, 110
_COLOURS = dict(zip(PROCESSES, ("#8b949e", "#bf8700", "#0969da", "#1a7f37"), strict=True))

Scale = Callable[[float], float]
Sample = tuple[float, dict[str, int]]
"""Seconds since the load began, and process -> resident bytes."""


def main() -> None:
    """Run the load, and write the results."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--rate", type=int, default=2_000, help="events a second")
    options.add_argument("--users", type=int, default=10_000)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="tokentide-soak-") as folder:
        stack = Stack(Path(folder), meters=1, sinks=1, partitions=8)
        try:
            stack.start()
            samples, sent = soak(stack, chosen.minutes * 60, chosen.rate, chosen.users)
            wait_until_settled(stack.settings, 300)
            restarts = {status.name: status.restarts for status in stack.statuses()}
        finally:
            stack.stop()
    result = {
        "minutes": chosen.minutes,
        "events": sent,
        "users": chosen.users,
        "restarts": restarts,
        "growth_mb": {name: growth(samples, name) for name in PROCESSES},
        "rss_mb": {name: [round(held[name] / 1e6, 1) for _, held in samples] for name in PROCESSES},
        "seconds": [round(at) for at, _ in samples],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "soak.json").write_text(json.dumps(result) + "\n")
    (RESULTS / "soak.svg").write_text(draw(samples, f"{sent:,} events in {chosen.minutes:g} minutes"))
    print(json.dumps({name: result[name] for name in ("events", "restarts", "growth_mb")}))


def soak(stack: Stack, seconds: float, rate: int, users: int) -> tuple[list[Sample], int]:
    """Send for so long; return the looks at the processes, and how many events were sent."""
    samples: list[Sample] = []
    over = threading.Event()
    began = time.monotonic()

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            held = {name: process.rss_bytes for name, process in stack.processes.items()}
            samples.append((time.monotonic() - began, held))

    watcher = threading.Thread(target=look)
    watcher.start()
    number = 0
    try:
        with UsageProducer(broker=stack.bootstrap) as producer:
            while (passed := time.monotonic() - began) < seconds:
                while number < passed * rate:
                    producer.track(**event(number, users))
                    number += 1
                time.sleep(0.01)
            dropped = producer.flush(60)
    finally:
        over.set()
        watcher.join()
    if dropped:
        raise RuntimeError(f"Kafka did not take {dropped} events")
    return samples, number


def growth(samples: Sequence[Sample], name: str) -> float:
    """Return by how many MB the mean of the last third is above that of the middle third."""
    third = len(samples) // 3
    parts = samples[third : 2 * third], samples[2 * third :]
    middle, last = (sum(held[name] for _, held in part) / max(1, len(part)) for part in parts)
    return round((last - middle) / 1e6, 1)


def draw(samples: Sequence[Sample], title: str) -> str:
    """Return the picture: a line for each process."""
    end = samples[-1][0]
    top = max(max(held.values()) for _, held in samples) * 1.1

    def x(seconds: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * seconds / end, 1)

    def y(size: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * size / top, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<style>text { font: 12px system-ui, sans-serif; fill: #59636e; } .grid { stroke: #d1d9e0; }"
        " @media (prefers-color-scheme: dark) { text { fill: #9198a1; } .grid { stroke: #3d444d; } }</style>",
        f'<text x="12" y="24">Resident memory in MB: {escape(title)}</text>',
    ]
    for size in range(0, int(top), 100_000_000):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{y(size)}" x2="{_WIDTH - _RIGHT}" y2="{y(size)}"/>'
        )
        parts.append(f'<text x="{_LEFT - 8}" y="{y(size) + 4}" text-anchor="end">{size // 1_000_000}</text>')
    for share in range(5):
        at = end * share / 4
        parts.append(f'<text x="{x(at)}" y="{_HEIGHT - 20}" text-anchor="middle">{at / 60:.3g} min</text>')
    return "\n".join([*parts, *(_curve(samples, name, x, y) for name in PROCESSES), "</svg>", ""])


def _curve(samples: Sequence[tuple[float, Mapping[str, int]]], name: str, x: Scale, y: Scale) -> str:
    points = " ".join(f"{x(at)},{y(held[name])}" for at, held in samples)
    last = y(samples[-1][1][name])
    return (
        f'<polyline points="{points}" fill="none" stroke="{_COLOURS[name]}" stroke-width="2"/>'
        f'<text x="{_WIDTH - _RIGHT + 8}" y="{last + 4}">{name}</text>'
    )


if __name__ == "__main__":
    main()
