"""What `make bench` works out from its runs: right answers, medians, ratios, the document and the picture."""

import os
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import contender
import environments
import pytest
from answers import Answers, cost_pico_usd, problems
from figures import Run, Spread, Summary, percentiles, ratio
from load import Course, event
from picture import draw
from pipeline import METER, SINK, WHOLE
from report import Race, document, table
from tree import Tree

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEYS = {
    "meter_us_per_event",
    "sink_us_per_event",
    "naive_faust_us_per_event",
    "handwritten_us_per_event",
    "peers",
    "event_to_alert_p99_ms",
    "event_to_row_p99_ms",
    "track_p99_us",
    "meter_rss_mb",
    "events_per_second",
    "inside_the_clock",
}


def answers(count: int = 100) -> Answers:
    """What is right for so many events."""
    found = Answers()
    for number in range(count):
        found.add({**event(number, 10), "timestamp": NOON})
    return found


def race() -> Race:
    """Two rounds, in which one contender failed."""
    return Race(
        rounds=2,
        is_quick=False,
        sizes={"events": 1000, "warm_events": 100},
        runs={
            WHOLE: [Run(40, 20_000, 600), Run(44, 22_000, 620)],
            METER: [Run(30, 20_000, 300), Run(34, 22_000, 310)],
            SINK: [Run(10, 20_000, 300), Run(10, 22_000, 310)],
            "naive_faust": [Run(800, 900, 150), Run(880, 1_000, 150)],
            "handwritten": [Run(10, 80_000, 150), Run(11, 81_000, 150)],
            "bytewax_flow": [Run(50, 18_000, 250), Run(60, 19_000, 250)],
            "broken<&>": [Run(problem="99 rows instead of 100")],
        },
        latency={
            "latency_events_per_second": 10_000,
            "event_to_alert_ms_p50": 300,
            "event_to_alert_ms_p99": 800,
            "event_to_row_ms_p50": 900,
            "event_to_row_ms_p99": 1_700,
        },
        track={"one_thread": {"us_p50": 18.0, "us_p99": 41.5, "calls_per_second": 10_000}},
    )


def test_the_cost_of_a_call_is_that_of_the_price_list() -> None:
    call = {"model": "gpt-4o-mini", "input_tokens": 1_000_000, "cache_read_tokens": 0, "output_tokens": 0}

    assert cost_pico_usd(call) == 150_000_000_000  # $0.15
    assert cost_pico_usd({**call, "cache_read_tokens": 1_000_000}) == 75_000_000_000
    assert cost_pico_usd({**call, "output_tokens": 1_000_000}) == 750_000_000_000


def test_right_answers_are_no_problem() -> None:
    assert problems(answers(), answers()) == []


def test_a_missing_row_and_a_repeated_id_are_named() -> None:
    assert problems(answers(), replace(answers(), rows=99))[0] == "99 rows instead of 100"
    assert problems(answers(), replace(answers(), ids=99)) == ["99 ids instead of 100"]


@pytest.mark.parametrize("change", [(0, 1), (1, 0)], ids=["one pico-dollar", "one request"])
def test_a_wrong_total_is_named(change: tuple[int, int]) -> None:
    key = ("team", "team-03", "2026-11-25")
    got = answers()
    requests, cost = got.totals[key]
    got.totals[key] = requests + change[0], cost + change[1]

    (problem,) = problems(answers(), got)

    assert problem.startswith("1 of 20 totals, the first team team-03 2026-11-25: ")


def test_a_missing_total_and_one_of_another_day_are_named() -> None:
    got = answers()
    got.totals["user", "user-000003", "2026-11-26"] = got.totals.pop(("user", "user-000003", "2026-11-25"))

    (problem,) = problems(answers(), got)

    assert problem.startswith("2 of 20 totals")


def test_the_median_and_the_spread_are_of_the_right_runs_only() -> None:
    summary = Summary.of([Run(3), Run(1), Run(2), Run(problem="no")])

    assert summary.us_per_event == Spread(2, 1, 3)
    assert (summary.runs, summary.problems) == (3, ("no",))
    assert Summary.of([Run(problem="no")]).us_per_event is None


def test_a_ratio_needs_both_numbers() -> None:
    assert ratio(Spread(840, 1, 999), Spread(42, 1, 99)) == 20
    assert ratio(None, Spread(1, 1, 1)) is None
    assert ratio(Spread(1, 1, 1), None) is None


def test_percentiles_are_named_and_rounded() -> None:
    assert percentiles("us", list(range(101)), 1) == {"us_p50": 50.0, "us_p99": 99.0}


def test_the_document_has_all_keys_with_medians_and_ratios() -> None:
    result = document(race(), NOON)

    assert result.keys() >= KEYS
    assert None not in [result[key] for key in KEYS]
    assert (result["meter_us_per_event"], result["sink_us_per_event"]) == (32, 10)
    assert (result["naive_faust_us_per_event"], result["handwritten_us_per_event"]) == (840, 10.5)
    assert result["peers"] == {"bytewax_flow": 55, "broken<&>": None}
    assert result["contenders"][WHOLE]["us_per_event"] == {"median": 42, "min": 40, "max": 44}
    assert result["contenders"][WHOLE]["times_less_than_naive_faust"] == 20
    assert result["contenders"][WHOLE]["times_handwritten"] == 4
    assert result["problems"] == ["broken<&>: 99 rows instead of 100"]


def test_the_table_names_every_contender_and_what_failed() -> None:
    shown = table(document(race(), NOON))

    lines = {line.partition("  ")[0]: line for line in shown.splitlines()}
    assert race().runs.keys() <= lines.keys()
    assert lines[WHOLE].split() == ["tokentide", "42.0", "40.0", "-", "44.0", "20x", "4x", "21,000", "610"]
    assert "FAILED" in lines["broken<&>"]
    assert shown.endswith("FAILED:\n  broken<&>: 99 rows instead of 100")


@pytest.mark.parametrize("names", [None, [], ["broken<&>"]], ids=["all", "nothing", "only a failure"])
def test_the_picture_is_well_formed_and_has_a_bar_for_each_that_did_not_fail(names: list[str] | None) -> None:
    ran = race()
    ran.runs = {name: runs for name, runs in ran.runs.items() if names is None or name in names}
    right = sum(name != "broken<&>" for name in ran.runs)

    root = ElementTree.fromstring(draw(document(ran, NOON)))

    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == right
    assert all(float(bar.attrib["width"]) >= 0 for bar in bars)


def test_the_picture_is_on_a_log_scale() -> None:
    ran = race()
    ran.runs = {name: [Run(cost)] for name, cost in {"a": 10, "b": 100, "c": 1000, "d": 1}.items()}

    root = ElementTree.fromstring(draw(document(ran, NOON)))

    one, ten, hundred, thousand = (
        float(bar.attrib["width"]) for bar in root.findall("{http://www.w3.org/2000/svg}rect")
    )
    assert one == 0
    assert hundred == pytest.approx(2 * ten, abs=1)
    assert thousand == pytest.approx(3 * ten, abs=1)


def clocked(tmp_path: Path, program: str, limit_seconds: float = 60) -> Run:
    """Run a Python program as a contender of 1,000 events."""
    tree = Tree([sys.executable, "-c", program], {**os.environ, "BENCH_FOLDER": str(tmp_path)}, tmp_path)
    return contender.clock(tree, Course("topic", 1000, 0, Answers()), tmp_path, limit_seconds)


WORK = """
import os, pathlib, subprocess, sys, time
folder = pathlib.Path(os.environ["BENCH_FOLDER"])
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
"""


def test_the_clock_counts_children_and_nothing_from_before_it_is_warm(tmp_path: Path) -> None:
    child = (
        "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ntime.sleep(0.5)"
    )

    run = clocked(
        tmp_path,
        f"""{WORK}
burn(0.5)
(folder / "warm").touch()
time.sleep(0.5)
child = subprocess.Popen([sys.executable, "-c", {child!r}])
burn(0.3)
time.sleep(0.3)
(folder / "done").touch()
child.wait()""",
    )

    assert run.problem is None
    # 0.6 s of 1,000 events, and the start of the child's Python.
    assert 500 < run.us_per_event < 1000
    assert run.rss_mb > 5


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise SystemExit('no broker')", "exit code 1 before it was done: no broker"),
        (
            "(folder / 'warm').touch(); (folder / 'done').touch(); raise SystemExit(3)",
            "exit code 3 after it was done",
        ),
        ("(folder / 'done').touch()", "done before it was seen to be warm"),
    ],
)
def test_a_contender_that_ends_wrongly_is_named(tmp_path: Path, program: str, problem: str) -> None:
    run = clocked(tmp_path, WORK + program)

    assert run.problem is not None
    assert run.problem.startswith(problem)


def test_a_contender_that_takes_too_long_is_killed_and_named(tmp_path: Path) -> None:
    started = time.monotonic()

    run = clocked(tmp_path, "import time; print('waiting', flush=True); time.sleep(600)", limit_seconds=3)

    assert run.problem == "not done after 3 s: waiting"
    assert time.monotonic() - started < 60


def test_an_environment_is_made_anew_when_its_text_has_changed_and_a_failure_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "odd.txt"
    text.write_text("# nothing\n")
    for name, folder in {"CONTENDERS": tmp_path, "ENVIRONMENTS": tmp_path / "envs"}.items():
        monkeypatch.setattr(environments, name, folder)
    mark = environments.make("odd").parent / "mark"
    mark.touch()

    environments.make("odd")

    assert mark.exists()
    text.write_text("--no-such-option\n")
    with pytest.raises(environments.EnvironmentFailedError, match=r"odd\.txt failed: "):
        environments.make("odd")
    assert not mark.exists()


def test_contenders_are_those_with_a_program_and_requirements() -> None:
    names: list[Any] = environments.names()

    assert all((environments.CONTENDERS / f"{name}.py").exists() for name in names)
    assert "contract" not in names
