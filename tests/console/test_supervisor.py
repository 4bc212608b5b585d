"""The supervisor, with small programs as its children."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tokentide.console.program import Backoff, Program, ProgramState
from tokentide.console.supervisor import Supervisor
from tokentide.schemas import ServiceUnavailableError, SettingsError

Make = Callable[..., Program]

SERVE = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVE}"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes programs of Python source."""

    def program(name: str, source: str, *, stage: int = 0, stop_seconds: float = 3.0) -> Program:
        return Program(
            name,
            [sys.executable, "-c", source],
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},
            log_path=tmp_path / "logs" / f"{name}.log",
            directory=tmp_path,
            ready_line="ready",
            stage=stage,
            stop_seconds=stop_seconds,
        )

    return program


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """One that starts crashed programs again soon."""
    with Supervisor(new_backoff=lambda: Backoff(first_seconds=0.1, most_seconds=0.4)) as running:
        yield running


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_a_program_is_ready_when_it_says_so(supervisor: Supervisor, make: Make) -> None:
    supervisor.launch(make("server", f"print('getting ready'); {SERVE}"))

    supervisor.wait_ready(["server"], timeout_seconds=20)

    (status,) = supervisor.statuses()
    assert (status.state, status.restarts, status.exit_code) == (ProgramState.RUNNING, 0, None)
    assert status.pid is not None
    assert status.rss_bytes > 1_000_000
    assert supervisor.statuses(memory=False)[0].rss_bytes == 0
    assert status.log_path.read_text() == "getting ready\nready\n"


def test_a_killed_program_is_started_again_and_is_ready_again(supervisor: Supervisor, make: Make) -> None:
    supervisor.launch(make("server", SERVE))
    supervisor.wait_ready(["server"], timeout_seconds=20)
    (before,) = supervisor.statuses()

    supervisor.kill("server")
    supervisor.wait_ready(["server"], timeout_seconds=20)

    (after,) = supervisor.statuses()
    assert (after.restarts, after.exit_code) == (1, -signal.SIGKILL)
    assert after.pid != before.pid


def test_a_program_that_goes_on_crashing_is_tried_at_growing_intervals(make: Make, tmp_path: Path) -> None:
    source = "import time, pathlib; open('starts', 'a').write(f'{time.monotonic()}\\n')"
    with Supervisor(new_backoff=lambda: Backoff(first_seconds=0.2, most_seconds=10)) as supervisor:
        supervisor.launch(make("crasher", source))

        wait_for(lambda: (tmp_path / "starts").exists() and len(_lines(tmp_path / "starts")) == 4)

    first, second, third, fourth = [float(line) for line in _lines(tmp_path / "starts")]
    assert second - first > 0.2
    assert third - second > 0.4
    assert fourth - third > 0.8


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (2, SettingsError, r"^Port 1 is taken\.$"),
        (
            1,
            ServiceUnavailableError,
            r"^server ended with code 1; see .*/server\.log: a line\nPort 1 is taken\.$",
        ),
    ],
)
def test_a_program_that_ends_before_it_is_ready_is_an_error_in_its_own_words(
    supervisor: Supervisor, make: Make, code: int, error: type[Exception], words: str
) -> None:
    supervisor.launch(make("server", f"print('a line'); print('Port 1 is taken.'); raise SystemExit({code})"))

    with pytest.raises(error, match=words):
        supervisor.wait_ready(["server"], timeout_seconds=20)


def test_a_program_that_is_not_there_is_an_error(supervisor: Supervisor, make: Make, tmp_path: Path) -> None:
    missing = Program("ghost", ["/no/such/program"], {}, tmp_path / "log", tmp_path, ready_line="ready")
    supervisor.launch(missing)

    with pytest.raises(ServiceUnavailableError, match="/no/such/program cannot be started: No such file"):
        supervisor.wait_ready(["ghost"], timeout_seconds=20)


def test_a_program_that_never_is_ready_is_an_error_that_names_its_log(
    supervisor: Supervisor, make: Make, tmp_path: Path
) -> None:
    supervisor.launch(make("sleeper", "import time; time.sleep(600)"))

    with pytest.raises(
        ServiceUnavailableError, match=r"sleeper is not ready after 1 s; see .*sleeper\.log\."
    ):
        supervisor.wait_ready(["sleeper"], timeout_seconds=1)


def test_stages_stop_from_high_to_low(supervisor: Supervisor, make: Make, tmp_path: Path) -> None:
    source = textwrap.dedent("""
        import signal, sys, time
        def stop(number, frame):
            time.sleep(0.3)
            open('stopped', 'a').write(sys.argv[0] + NAME + '\\n')
            sys.exit()
        signal.signal(signal.SIGTERM, stop)
        print('ready')
        time.sleep(600)
    """)
    for name, stage in [("kafka", 0), ("worker", 2), ("clickhouse", 1)]:
        supervisor.launch(make(name, source.replace("NAME", repr(name)), stage=stage))
    supervisor.wait_ready(["kafka", "worker", "clickhouse"], timeout_seconds=20)

    supervisor.stop()

    assert [line.removeprefix("-c") for line in _lines(tmp_path / "stopped")] == [
        "worker",
        "clickhouse",
        "kafka",
    ]
    assert supervisor.statuses() == []


def test_a_program_that_ignores_sigterm_is_killed_at_its_limit(supervisor: Supervisor, make: Make) -> None:
    supervisor.launch(make("stubborn", STUBBORN, stop_seconds=0.5))
    supervisor.launch(make("kind", SERVE))
    supervisor.wait_ready(["stubborn", "kind"], timeout_seconds=20)
    pids = [status.pid for status in supervisor.statuses()]

    started = time.monotonic()
    supervisor.stop()

    assert 0.5 <= time.monotonic() - started < 5
    assert not any(psutil.pid_exists(pid) for pid in pids if pid is not None)


def test_a_stop_while_a_program_waits_for_its_next_start_does_not_wait_for_it(make: Make) -> None:
    with Supervisor(new_backoff=lambda: Backoff(first_seconds=100, most_seconds=100)) as supervisor:
        supervisor.launch(make("crasher", "raise SystemExit(1)"))
        wait_for(lambda: supervisor.statuses()[0].state is ProgramState.WAITING)

        started = time.monotonic()
        supervisor.stop()

        assert time.monotonic() - started < 2


def test_a_large_log_is_put_aside_while_the_program_runs(supervisor: Supervisor, make: Make) -> None:
    source = (
        "print('ready'); print(('x' * 99 + '\\n') * 110_000); import time; time.sleep(1); print('end'); "
        + SERVE
    )
    supervisor.launch(make("talker", source))
    supervisor.wait_ready(["talker"], timeout_seconds=20)
    (status,) = supervisor.statuses()
    old = status.log_path.with_suffix(".old.log")

    wait_for(lambda: old.exists() and status.log_path.read_text() == "end\nready\n")

    assert old.read_text().startswith("ready\nxxx")
    assert supervisor.statuses()[0].restarts == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_and_grandchildren_die_with_a_supervisor_that_is_killed(
    tmp_path: Path, number: signal.Signals
) -> None:
    source = textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        from tokentide.console.program import Program
        from tokentide.console.supervisor import Supervisor
        inner = {STUBBORN!r}
        outer = '''
        import os, sys, time
        from pathlib import Path
        from tokentide.console.program import Program
        from tokentide.console.supervisor import Supervisor
        supervisor = Supervisor()
        here = Path('.').resolve()
        supervisor.launch(Program('inner', [sys.executable, '-c', %r], os.environ, here / 'inner.log', here, 'ready'))
        supervisor.wait_ready(['inner'], timeout_seconds=20)
        print('ready', flush=True)
        time.sleep(600)
        '''.replace('\\n        ', '\\n') % inner
        here = Path({str(tmp_path)!r})
        supervisor = Supervisor()
        supervisor.launch(Program('outer', [sys.executable, '-c', outer], os.environ, here / 'o.log', here, 'ready'))
        supervisor.wait_ready(['outer'], timeout_seconds=20)
        print('ready', flush=True)
        time.sleep(600)
    """)
    parent = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        family = psutil.Process(parent.pid).children(recursive=True)
    finally:
        parent.send_signal(number)
        parent.communicate()

    assert len(family) == 2
    wait_for(lambda: not any(each.is_running() and each.status() != "zombie" for each in family), 5)
