"""The result of a race: as a document for `results/`, and as a table to read."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from figures import Run, Summary, median, ratio
from pipeline import METER, SINK, WHOLE

NAIVE, HANDWRITTEN = "naive_faust", "handwritten"
_NOT_PEERS = (WHOLE, METER, SINK, NAIVE, HANDWRITTEN)
INSIDE_THE_CLOCK = (
    "Everything from taking a record out of Kafka to the last row and total in ClickHouse: fetching, decoding, "
    "pricing, totals, state and changelogs where a contender keeps them, commits where it makes them, inserts. CPU "
    "is that of all processes of a contender, from the moment that it has taken in warm_events until it is done. Of "
    "tokentide: of the meter (decode, dedupe, price, totals, budgets, alerts, changelogs, commits) and of the sink "
    "(rows, totals and alerts into ClickHouse), each from the first snapshot of its own metrics behind warm_events "
    "until nothing is behind in Kafka. Outside: making the events, starting the processes, and the CPU of Kafka and "
    "ClickHouse, which all share."
)


@dataclass
class Race:
    """What was run, and what came out."""

    rounds: int
    is_quick: bool
    sizes: Mapping[str, int]
    """events, warm_events and so on."""
    runs: dict[str, list[Run]] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)
    track: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Of latency and track; those of a contender are in its runs."""

    def summaries(self) -> dict[str, Summary]:
        """Return each contender over its rounds."""
        return {name: Summary.of(runs) for name, runs in self.runs.items()}

    def all_problems(self) -> list[str]:
        """Name all that went wrong."""
        return [
            f"{name}: {problem}" for name, each in self.summaries().items() for problem in each.problems
        ] + self.problems


def document(race: Race, now: datetime) -> dict[str, Any]:
    """Return all of it for JSON; what is missing is null."""
    summaries = race.summaries()
    costs = {name: each.us_per_event for name, each in summaries.items()}
    middle = {name: median(each) for name, each in costs.items()}
    whole, meter = summaries.get(WHOLE), summaries.get(METER)
    return {
        "date": now.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "is_quick": race.is_quick,
        "rounds": race.rounds,
        **race.sizes,
        "inside_the_clock": INSIDE_THE_CLOCK,
        "meter_us_per_event": middle.get(METER),
        "sink_us_per_event": middle.get(SINK),
        "tokentide_us_per_event": middle.get(WHOLE),
        "naive_faust_us_per_event": middle.get(NAIVE),
        "handwritten_us_per_event": middle.get(HANDWRITTEN),
        "peers": {name: each for name, each in middle.items() if name not in _NOT_PEERS},
        "events_per_second": median(whole.events_per_second) if whole else None,
        "meter_rss_mb": median(meter.rss_mb) if meter else None,
        "event_to_alert_p99_ms": race.latency.get("event_to_alert_ms_p99"),
        "event_to_row_p99_ms": race.latency.get("event_to_row_ms_p99"),
        "track_p99_us": race.track.get("one_thread", {}).get("us_p99"),
        "contenders": {
            name: {
                **each.as_dict(),
                "times_less_than_naive_faust": ratio(costs.get(NAIVE), each.us_per_event),
                "times_handwritten": ratio(each.us_per_event, costs.get(HANDWRITTEN)),
            }
            for name, each in summaries.items()
        },
        "latency": race.latency,
        "track": race.track,
        "problems": race.all_problems(),
    }


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _cpu_model(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def commit() -> str:
    """Return the commit that is checked out, marked when files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def table(result: Mapping[str, Any]) -> str:
    """Return the document as plain text, the cheapest contender first."""
    rows = [("", "CPU µs an event", "", "naive ÷ this", "this ÷", "events/s", "RSS MB")]
    rows.append(("contender", "median", "min - max", "", "handwritten", "median", "median"))
    for name, each in sorted(result["contenders"].items(), key=_by_cost):
        cost = each["us_per_event"]
        if cost is None:
            rows.append((name, "FAILED", "", "", "", "", ""))
            continue
        rows.append(
            (
                name,
                f"{cost['median']:,.1f}",
                f"{cost['min']:,.1f} - {cost['max']:,.1f}",
                _times(each["times_less_than_naive_faust"]),
                _times(each["times_handwritten"]),
                f"{each['events_per_second']['median']:,.0f}",
                f"{each['rss_mb']['median']:,.0f}",
            )
        )
    lines = [f"{result['events']:,} events, rounds: {result['rounds']}, commit {result['commit']}", ""]
    lines += _aligned(rows)
    lines += ["", *_beside(result)]
    if result["problems"]:
        lines += ["", "FAILED:", *(f"  {problem}" for problem in result["problems"])]
    return "\n".join(lines)


def _by_cost(item: tuple[str, Mapping[str, Any]]) -> float:
    cost = item[1]["us_per_event"]
    return float("inf") if cost is None else float(cost["median"])


def _times(number: float | None) -> str:
    return "-" if number is None else f"{number:,.3g}x" if number < 1000 else f"{number:,.0f}x"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _beside(result: Mapping[str, Any]) -> list[str]:
    """What was measured beside the race."""
    lines = []
    if latency := result["latency"]:
        lines.append(
            f"at {latency['latency_events_per_second']:,} events/s: "
            + "; ".join(
                f"event to {what} p50 {latency[f'event_to_{what}_ms_p50']:,} ms, "
                f"p99 {latency[f'event_to_{what}_ms_p99']:,} ms"
                for what in ("alert", "row")
            )
        )
    lines += [
        f"track(), {name.replace('_', ' ')}: p50 {figures['us_p50']} µs, p99 {figures['us_p99']} µs "
        f"at {figures['calls_per_second']:,} calls/s"
        for name, figures in result["track"].items()
    ]
    return lines


def stamp() -> datetime:
    """Return now, as the document says it."""
    return datetime.now(UTC)
