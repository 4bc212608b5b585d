"""One contender, one run: its tables, its process, the clock, and whether its answers are right."""

import os
import shutil
import time
from pathlib import Path

from answers import problems, read_contender
from figures import Run
from load import Course
from tree import Tree

from tokentide.console.stack import Stack
from tokentide.sinks import connect

_ROWS = """CREATE TABLE default.{} (
    event_id String, timestamp DateTime64(6, 'UTC'), user_id String, team_id String, provider String, model String,
    operation String, input_tokens UInt32, output_tokens UInt32, cache_read_tokens UInt32, cost_pico_usd Int64
) ENGINE = MergeTree ORDER BY (user_id, timestamp)"""
_TOTALS = """CREATE TABLE default.{} (
    scope String, scope_id String, day Date, requests UInt64, cost_pico_usd Int64,
    written UInt64 MATERIALIZED toUnixTimestamp64Nano(now64(9))
) ENGINE = ReplacingMergeTree(written) ORDER BY (scope, scope_id, day)"""
_SIGNAL_SECONDS = 0.005
_LOOK_SECONDS = 0.25
_END_SECONDS = 60.0


def run(command: list[str], course: Course, stack: Stack, folder: Path, limit_seconds: float) -> Run:
    """Run it over the course, and check what it wrote; whatever goes wrong is the problem of the Run.

    The folder is made, for its signals, state and log, and removed when all was right.
    """
    folder.mkdir(parents=True)
    rows, totals = f"rows_{folder.name}", f"totals_{folder.name}"
    client = connect(stack.settings.clickhouse, database="default")
    try:
        client.command(_ROWS.format(rows))
        client.command(_TOTALS.format(totals))
        variables = {
            "BENCH_BROKER": stack.bootstrap,
            "BENCH_TOPIC": course.topic,
            "BENCH_EVENTS": str(course.events),
            "BENCH_WARM": str(course.warm),
            "BENCH_CLICKHOUSE": stack.clickhouse_url,
            "BENCH_ROWS": f"default.{rows}",
            "BENCH_TOTALS": f"default.{totals}",
            "BENCH_FOLDER": str(folder),
        }
        measured = clock(Tree(command, environment(variables), folder), course, folder, limit_seconds)
        if measured.problem is None and (
            wrong := problems(course.want, read_contender(client, f"default.{rows}", f"default.{totals}"))
        ):
            measured = Run(problem="; ".join(wrong))
    finally:
        for table in (rows, totals):
            client.command(f"DROP TABLE IF EXISTS default.{table}")
        client.close()
    if measured.problem is None:
        shutil.rmtree(folder, ignore_errors=True)
    return measured


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return our environment with these, and without what would lead its Python to our packages."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {**kept, **variables}


def clock(tree: Tree, course: Course, folder: Path, limit_seconds: float) -> Run:
    """Wait for both signals and the end; the CPU and the time between the signals are the Run."""
    started = looked = time.monotonic()
    warm: tuple[float, float, int] | None = None
    try:
        while not (folder / "done").exists():
            now = time.monotonic()
            if warm is None and (folder / "warm").exists():
                warm = (tree.look(), now, int((folder / "warm").read_text() or course.warm))
            elif now - looked > _LOOK_SECONDS:
                looked = now
                tree.look()
            if now - started > limit_seconds:
                return Run(problem=f"not done after {limit_seconds:.0f} s: {tree.last_words()}")
            if tree.has_ended() and not (folder / "done").exists():
                return Run(problem=f"exit code {tree.wait(1)} before it was done: {tree.last_words()}")
            time.sleep(_SIGNAL_SECONDS)
        now = time.monotonic()
        seconds = tree.look()
        code = tree.wait(_END_SECONDS)
        if code != 0:
            what = f"still running {_END_SECONDS:.0f} s" if code is None else f"exit code {code}"
            return Run(problem=f"{what} after it was done: {tree.last_words()}")
        if warm is None:
            return Run(problem="done before it was seen to be warm")
    finally:
        tree.end()
    seconds_before, began, taken = warm
    counted = course.events - taken
    if counted < course.events // 4:
        return Run(problem=f"only {counted:,} events were left when the clock started: take more events")
    return Run(
        us_per_event=(seconds - seconds_before) / counted * 1e6,
        events_per_second=counted / (now - began),
        rss_mb=tree.peak_rss_bytes / 1e6,
    )
