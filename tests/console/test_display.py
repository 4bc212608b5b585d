"""What `up` shows: a line a change where nobody looks at a terminal, else one table."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tokentide.console.display import Display, status_line, status_table
from tokentide.console.program import ProgramState, ProgramStatus


class Programs:
    """Programs that stand where the test puts them."""

    def __init__(self, *statuses: ProgramStatus) -> None:
        self.now = list(statuses)

    def statuses(self) -> list[ProgramStatus]:
        return self.now


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of a program that has said why it ends."""
    path = tmp_path / "kafka.log"
    path.write_text("starting\nno space left [red]on device\n")
    return path


def status(log: Path, state: ProgramState, **fields: object) -> ProgramStatus:
    known = {"name": "kafka", "pid": None, "restarts": 0, "exit_code": None, "rss_bytes": 0}
    return ProgramStatus(state=state, log_path=log, **(known | fields))  # type: ignore[arg-type]


def test_a_crash_is_told_with_the_last_words_of_the_program(log: Path) -> None:
    crashed = status(log, ProgramState.WAITING, exit_code=1)

    assert status_line(crashed) == (
        "kafka is waiting: ended with code 1, starts again soon: no space left [red]on device"
    )
    assert status_line(status(log, ProgramState.STARTING, pid=7)) == "kafka is starting (pid 7)"
    assert status_line(status(log, ProgramState.RUNNING, pid=7)) == "kafka is running"


def test_lines_are_printed_for_changes_only(log: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    programs = Programs(status(log, ProgramState.STARTING, pid=7))

    with Display(tmp_path, console=Console(file=out)) as display:
        display.note("kafka")
        display.watch(programs)
        for state in (ProgramState.RUNNING, ProgramState.RUNNING, ProgramState.STOPPED):
            programs.now = [status(log, state, pid=7)]
            display.note("kafka")
            display.note("another")
        display.say("Everything runs.")

    lines = [line.partition("  ")[2] for line in out.getvalue().splitlines()]
    assert lines == [
        f"Data and logs: {tmp_path}",
        "kafka is running",
        "kafka is stopped",
        "Everything runs.",
    ]


def test_a_terminal_shows_one_table(log: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)

    with Display(tmp_path, console=console) as display:
        display.watch(
            Programs(status(log, ProgramState.RUNNING, pid=4711, rss_bytes=330_000_000, restarts=2))
        )
        display.note("kafka")
        display.say("Everything runs.")

    shown = out.getvalue()
    assert "4711" in shown
    assert "330 MB" in shown
    assert "Everything runs." in shown
    assert "kafka is running" not in shown


def test_a_table_shows_words_of_a_log_as_they_are(log: Path) -> None:
    out = io.StringIO()

    Console(file=out, width=120).print(status_table([status(log, ProgramState.WAITING, exit_code=1)]))

    assert "no space left [red]on device" in out.getvalue()
