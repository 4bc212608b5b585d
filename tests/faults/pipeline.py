"""The processes of one seed: meters, sinks and a producer, each under a supervisor of its own."""

import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tokentide.console.program import Backoff, Program, ProgramState, ProgramStatus, last_lines
from tokentide.console.settings import ConsoleSettings
from tokentide.console.supervisor import Supervisor

__all__ = ["Pipeline"]

_READY_SECONDS = 180.0


class Pipeline:
    """Worker processes that come and go; what crashes is started again, within two seconds."""

    def __init__(
        self,
        folder: Path,
        settings: ConsoleSettings,
        variables: Mapping[str, str],
        clocks: Mapping[str, int],
        round_seconds: float | None,
    ) -> None:
        """`clocks` says whose clock is ahead, by how many seconds; perhaps negative.

        `round_seconds` is how long a meter takes to write all records of its changelogs again, unless as always.
        """
        self._folder = folder
        self._clocks = clocks
        self._round = [] if round_seconds is None else [f"--round={round_seconds}"]
        self._settings = settings
        self._variables = variables
        self._supervisors: dict[str, Supervisor] = {}
        self._restarts = 0
        self._thaws: list[threading.Timer] = []

    @property
    def restarts(self) -> int:
        """How often a process was started again."""
        return self._restarts + sum(_status(each).restarts for each in self._supervisors.values())

    @property
    def workers(self) -> list[str]:
        """Who is there, running or about to be started again."""
        return list(self._supervisors)

    def add_worker(self, name: str) -> None:
        """Start a meter or a sink, and return at once."""
        work_dir = self._folder / name
        work_dir.mkdir(parents=True)
        variables = {
            **self._settings.environment(),
            "TOKENTIDE_WORKER": name,
            "TOKENTIDE_WORK_DIR": str(work_dir),
        }
        kind = name.partition("-")[0]
        ahead = f"--ahead={self._clocks.get(name, 0)}"
        self.add(name, ["-m", "faults.worker", ahead, *self._round, kind], "ready", variables)

    def add(self, name: str, arguments: list[str], ready_line: str, variables: Mapping[str, str]) -> None:
        """Start a Python program under this name, and return at once."""
        supervisor = Supervisor(new_backoff=lambda: Backoff(most_seconds=2.0))
        supervisor.launch(
            Program(
                name,
                [sys.executable, *arguments],
                environment={**self._variables, "PYTHONUNBUFFERED": "1", **variables},
                log_path=self._log_path(name),
                directory=self._folder,
                ready_line=ready_line,
                stop_seconds=4.0,
            )
        )
        self._supervisors[name] = supervisor  # only now: other threads look at its one program

    def remove(self, name: str) -> None:
        """End a process for good, by force when it does not end by itself."""
        supervisor = self._supervisors.pop(name)
        self._restarts += _status(supervisor).restarts
        supervisor.stop()

    def wait_ready(self) -> None:
        """Return when all are ready; raises ServiceUnavailableError when one ends first, or is too late."""
        for name, supervisor in self._supervisors.items():
            supervisor.wait_ready([name], timeout_seconds=_READY_SECONDS)

    def strike(self, kind: str, name: str, seconds: float = 0.0) -> bool:
        """Kill, stop or freeze a process; return whether it was there to be hit."""
        is_there = self.pid(name) is not None
        if kind == "freeze":
            self._supervisors[name].kill(name, signal.SIGSTOP)
            thaw = threading.Timer(seconds, self._thaw, (name,))
            thaw.start()
            self._thaws.append(thaw)
        else:
            self._supervisors[name].kill(name, signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        return is_there

    def pid(self, name: str) -> int | None:
        """Return the number of the process; None while it is away."""
        supervisor = self._supervisors.get(name)
        return _status(supervisor).pid if supervisor else None

    def wait_thawed(self) -> None:
        """Return when nobody is frozen."""
        while self._thaws:
            self._thaws.pop().join()

    def is_running(self, name: str) -> bool:
        """Whether the process has printed that it is ready, in its present life."""
        return _status(self._supervisors[name]).state is ProgramState.RUNNING

    def away(self) -> dict[str, str]:
        """Return who is not running, and what it printed last."""
        return {name: words for name, words in self.last_words().items() if not self.is_running(name)}

    def last_words(self) -> dict[str, str]:
        """Return what each worker printed last."""
        return {name: last_lines(self._log_path(name), 5) for name in self.workers}

    def stop(self) -> None:
        """End all at once."""
        self.wait_thawed()
        threads = [threading.Thread(target=self.remove, args=(name,)) for name in self.workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _log_path(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"

    def _thaw(self, name: str) -> None:
        # It may have been removed meanwhile.
        with suppress(KeyError):
            self._supervisors[name].kill(name, signal.SIGCONT)


def _status(supervisor: Supervisor) -> ProgramStatus:
    (status,) = supervisor.statuses(memory=False)
    return status
