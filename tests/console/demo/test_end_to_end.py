"""`tokentide demo` as people run it: real Kafka, real workers, the embedded ClickHouse, each in its own process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.traces import REAL_TRACE, WITHOUT_IT, trace_rows

from tokentide.console.trace import generate_trace
from tokentide.sinks import ClickHouseSettings, connect

KEYS = [
    "events",
    "duplicates",
    "rejected",
    "unpriced",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "by_model",
    "by_team",
    "alerts",
    "audit",
    "seconds",
    "events_per_second",
]
TOKENTIDE = [sys.executable, "-m", "tokentide.console.cli"]


class Demo:
    """One run of the command, whose temporary files lie in a directory of their own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._said = folder / "stderr"
        self._printed = folder / "stdout"
        with self._said.open("wb") as said, self._printed.open("wb") as printed:
            self.process = psutil.Popen(
                [*TOKENTIDE, "demo", *arguments],
                env={**os.environ, "TMPDIR": str(self.temporary), "TOKENTIDE_BROKER": "127.0.0.1:1"},
                stdout=printed,
                stderr=said,
            )

    @property
    def said(self) -> str:
        return self._said.read_text()

    @property
    def printed(self) -> str:
        return self._printed.read_text()

    def wait_for(self, words: str, seconds: float = 90) -> None:
        """Return once it has said or printed the words."""
        deadline = time.monotonic() + seconds
        while words not in self.said + self.printed:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the demo never said {words!r}: {self.said}")
            time.sleep(0.05)

    def children(self) -> list[psutil.Process]:
        return self.process.children(recursive=True)

    def argument(self, command: str, name: str) -> str:
        """What a server among the children was started with."""
        for child in self.children():
            line = child.cmdline()
            if command in line and name in line:
                return line[line.index(name) + 1]
        pytest.fail(f"no child runs {command} with {name}")

    def kill(self) -> None:
        """End what is left, also its children: they die with it."""
        if self.process.poll() is None:
            children = self.children()
            self.process.kill()
            self.process.wait(10)
            psutil.wait_procs(children, timeout=10)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Demo]]:
    demos: list[Demo] = []
    yield demos
    for demo in demos:
        demo.kill()


def assert_nothing_runs(children: list[psutil.Process]) -> None:
    """An orphan may stay a zombie until the container's first process looks: it has ended all the same."""
    _, alive = psutil.wait_procs(children, timeout=0)
    names = []
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                names.append(f"{child.pid} {child.name()}")
    assert not names


def one_object(text: str) -> dict[str, Any]:
    [line] = text.splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recorded", "generated"])
def test_the_answer_is_right_and_proven(name: str, tmp_path: Path, started: list[Demo]) -> None:
    if name == "recorded" and not REAL_TRACE.exists():
        pytest.skip(WITHOUT_IT)
    expected = REAL_TRACE
    if name == "generated":
        expected = tmp_path / "generated.csv"
        generate_trace(expected)
    rows = trace_rows(expected)
    demo = Demo(tmp_path, "--json", *(["--trace", str(REAL_TRACE)] if name == "recorded" else []))
    started.append(demo)

    demo.wait_for("Replaying")
    children = demo.children()
    code = demo.process.wait(300)

    assert code == 0, demo.said
    result = one_object(demo.printed)
    assert list(result) == KEYS
    assert result["events"] == len(rows)
    assert result["input_tokens"] == sum(row.input_tokens for row in rows)
    assert result["output_tokens"] == sum(row.output_tokens for row in rows)
    assert (result["duplicates"], result["rejected"], result["unpriced"]) == (0, 0, 0)
    assert result["audit"]["equal"] is True
    assert result["audit"]["totals"]["Kafka log"]["cost_pico_usd"] == pico(result["cost_usd"])
    for parts in (result["by_team"], result["by_model"]):
        assert sum(part["input_tokens"] for part in parts.values()) == result["input_tokens"]
        assert sum(int(pico(part["cost_usd"])) for part in parts.values()) == int(pico(result["cost_usd"]))
    assert Counter((alert["budget_id"], alert["threshold_pct"]) for alert in result["alerts"]) == {
        (budget, percent): 1
        for budget in ("demo-team-month", "demo-team-day", "demo-user-day")
        for percent in (75, 90, 100)
    }
    assert result["seconds"] < 90
    assert result["events_per_second"] > 0
    assert_nothing_runs(children)
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.slow
def test_kept_running_it_answers_and_a_second_replay_counts_nothing(
    tmp_path: Path, started: list[Demo]
) -> None:
    trace = tmp_path / "calls.jsonl"
    calls = [call(number) for number in range(200)]
    trace.write_text("\n".join(json.dumps(each) for each in [*calls, *calls[:20]]))
    demo = Demo(tmp_path, "--json", "--keep", "--meters", "2", "--trace", str(trace))
    started.append(demo)
    demo.wait_for("Try elsewhere:", 180)
    broker = f"127.0.0.1:{demo.argument('kafka', '--port')}"
    clickhouse = f"http://127.0.0.1:{demo.argument('clickhouse', '--port')}"
    children = demo.children()

    replayed = tokentide("replay", "--trace", str(trace), "--broker", broker)
    audited = tokentide("audit", "--wait", "60", "--json", "--broker", broker, "--clickhouse", clickhouse)
    counted = tokentide("sql", "--format", "CSV", "--clickhouse", clickhouse, "SELECT count() FROM usage")
    demo.process.send_signal(signal.SIGINT)
    code = demo.process.wait(10)

    result = one_object(demo.printed)
    assert (result["events"], result["duplicates"], result["unpriced"]) == (200, 20, 50)
    assert ("unpriced_model", "openai/nobody-knows-it") in {
        (alert["kind"], alert["scope_id"]) for alert in result["alerts"]
    }
    assert replayed.returncode == 0, replayed.stderr
    assert audited.returncode == 0, audited.stdout
    assert json.loads(audited.stdout)["duplicates"] == 20 + 220
    assert counted.stdout == "200\n"
    for command in (
        f"sql --clickhouse {clickhouse} ",
        f"budgets list --broker {broker}",
        f"--broker {broker} --c",
    ):
        assert command in demo.said
    assert code == 0
    assert_nothing_runs(children)
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "number"),
    [("Starting Kafka", signal.SIGINT), ("workers", signal.SIGTERM), ("Replaying", signal.SIGINT)],
)
def test_ctrl_c_stops_everything_within_ten_seconds(
    words: str, number: signal.Signals, tmp_path: Path, started: list[Demo]
) -> None:
    demo = Demo(tmp_path, "--json", "--rate", "100")
    started.append(demo)
    demo.wait_for(words)
    time.sleep(1)
    children = demo.children()

    demo.process.send_signal(number)
    code = demo.process.wait(10)

    assert code == 130
    assert demo.printed == ""
    assert demo.said.endswith("Everything is stopped.\n")
    assert children
    assert_nothing_runs(children)
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.slow
def test_an_unequal_audit_is_exit_code_1_and_keeps_the_logs(tmp_path: Path, started: list[Demo]) -> None:
    trace = tmp_path / "trace.csv"
    generate_trace(trace, rows=300)
    demo = Demo(tmp_path, "--json", "--rate", "100", "--trace", str(trace))
    started.append(demo)
    demo.wait_for("Replaying")
    client = connect(ClickHouseSettings(url=f"http://127.0.0.1:{demo.argument('clickhouse', '--port')}"))

    client.command(
        "INSERT INTO spend_totals (scope, scope_id, period, period_start, source_partition, version, requests, "
        "input_tokens, output_tokens, cost_usd, unpriced_requests) "
        "VALUES ('user', 'mallory', 'month', '2023-11-01 00:00:00', 0, 1, 1, 1, 1, 1, 0)"
    )
    client.close()
    code = demo.process.wait(120)

    assert code == 1, demo.said
    assert one_object(demo.printed)["audit"]["equal"] is False
    [kept] = demo.temporary.glob("tokentide-demo-*")
    assert f"the logs are in {kept}/logs" in demo.said
    assert {log.name for log in (kept / "logs").iterdir()} >= {"meter-1.log", "sink-1.log", "kafka.log"}


def test_a_malformed_trace_is_refused_before_anything_starts(tmp_path: Path, started: list[Demo]) -> None:
    trace = tmp_path / "trace.csv"
    generate_trace(trace, rows=3)
    with trace.open("a") as file:
        file.write("2023-11-16 19:15:47,lots,44\n")
    demo = Demo(tmp_path, "--trace", str(trace))
    started.append(demo)

    code = demo.process.wait(60)

    assert code == 2
    assert demo.said.splitlines()[1:] == [f"{trace}, line 5: ContextTokens 'lots' is not a whole number"]
    assert list(demo.temporary.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["--rate", "fast"], ["--models", "gpt-4o"], ["--users", "0"], ["--meters", "0"]]
)
def test_wrong_use_is_exit_code_2(arguments: list[str], tmp_path: Path, started: list[Demo]) -> None:
    demo = Demo(tmp_path, *arguments)
    started.append(demo)

    assert demo.process.wait(60) == 2
    assert demo.said
    assert list(demo.temporary.iterdir()) == []


def call(number: int) -> dict[str, Any]:
    """One of 200 calls, a quarter of them of a model that nobody can price."""
    return {
        "event_id": f"call-{number}",
        "timestamp": f"2025-03-{number % 5 + 1:02d}T12:00:00Z",
        "provider": "openai",
        "model": "gpt-4o" if number % 4 else "nobody-knows-it",
        "user_id": f"user-{number % 7}",
        "team_id": f"team-{number % 3}",
        "input_tokens": 1000 + number,
        "output_tokens": 10,
    }


def tokentide(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*TOKENTIDE, *arguments], capture_output=True, text=True, timeout=120, check=False)


def pico(usd: str) -> str:
    """An amount in USD as whole pico-USD, digit by digit."""
    whole, _, fraction = usd.partition(".")
    return str(int(whole + fraction.ljust(12, "0")))
