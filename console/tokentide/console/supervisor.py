"""Child processes that are started, watched, started again when they crash, and stopped in order."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tokentide.console.kafka.child import start_tethered
from tokentide.console.program import Backoff, Program, ProgramState, ProgramStatus, last_lines
from tokentide.schemas import ServiceUnavailableError, SettingsError

__all__ = ["Supervisor"]

_POLL_SECONDS = 0.1
_KILL_SECONDS = 5.0
_LARGE_LOG_BYTES = 10_000_000


class Supervisor:
    """Runs programs; a context manager that stops all of them.

    None outlives this process, however it ends: each is tethered to it. `on_change` gets the name of a program
    whose state or pid changed, from a thread of its own; it must not call `stop`.
    """

    def __init__(
        self,
        *,
        on_change: Callable[[str], None] = lambda _name: None,
        new_backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._on_change = on_change
        self._new_backoff = new_backoff
        self._children: dict[str, _Child] = {}

    def launch(self, program: Program) -> None:
        """Start the program and return at once."""
        if program.name in self._children:
            raise ValueError(f"{program.name} runs already")
        child = _Child(program, self._new_backoff(), self._on_change)
        self._children[program.name] = child
        child.thread.start()

    def wait_ready(self, names: Sequence[str], *, timeout_seconds: float) -> None:
        """Return when all these programs are ready; also after `kill`, when they are ready again.

        When one ends that never was ready, raises what its exit code says: SettingsError for 2, else
        ServiceUnavailableError, as at the timeout; the text holds what it printed last.
        """
        deadline = time.monotonic() + timeout_seconds
        for name in names:
            child = self._children[name]
            while not child.ready.wait(_POLL_SECONDS):
                child.raise_if_crashed()
                if time.monotonic() > deadline:
                    raise ServiceUnavailableError(
                        f"{name} is not ready after {timeout_seconds:.0f} s; see {child.program.log_path}."
                    )

    def statuses(self, *, memory: bool = True) -> list[ProgramStatus]:
        """Look at all programs, in the order of their launch.

        Memory takes a walk through all processes of the machine; without, `rss_bytes` is 0.
        """
        # A copy: other threads look while this one launches.
        return [child.status(memory) for child in list(self._children.values())]

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send the program a signal; when it dies of it, it is started again like after any crash."""
        self._children[name].strike(number)

    def stop(self) -> None:
        """End all programs, the highest stage first; harmless when nothing runs."""
        for stage in sorted({child.program.stage for child in self._children.values()}, reverse=True):
            group = [child for child in self._children.values() if child.program.stage == stage]
            asked = time.monotonic()
            for child in group:
                child.ask_to_stop()
            for child in group:
                child.await_end(asked + child.program.stop_seconds)
        self._children.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Child:
    """One program and the thread that watches it."""

    def __init__(self, program: Program, backoff: Backoff, on_change: Callable[[str], None]) -> None:
        self.program = program
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._watch, name=f"watch-{program.name}", daemon=True)
        self._backoff = backoff
        self._on_change = on_change
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._state = ProgramState.STARTING
        self._starts = 0
        self._was_ready = False
        self._exit_code: int | None = None
        self._problem: str | None = None

    def status(self, memory: bool) -> ProgramStatus:
        """Look at the program."""
        with self._lock:
            pid = self._process.pid if self._process is not None else None
            state, starts, code = self._state, self._starts, self._exit_code
        rss_bytes = _rss_bytes(pid) if memory else 0
        return ProgramStatus(
            self.program.name, state, pid, max(0, starts - 1), code, rss_bytes, self.program.log_path
        )

    def raise_if_crashed(self) -> None:
        """Raise the error that an end amounts to, unless the program was ready before: then it will be again."""
        if self._problem is not None:
            raise ServiceUnavailableError(self._problem)
        if self._exit_code is None or self._was_ready:
            return
        words = last_lines(self.program.log_path, 1 if self._exit_code == 2 else 3)
        if self._exit_code == 2:
            raise SettingsError(words)
        raise ServiceUnavailableError(
            f"{self.program.name} ended with code {self._exit_code}; see {self.program.log_path}: {words}"
        )

    def send(self, number: int) -> None:
        """Send a signal, if it runs."""
        with self._lock:
            if self._process is not None:
                self._process.send_signal(number)

    def strike(self, number: int) -> None:
        """Send a signal from outside; the program is not ready any more when it ends it."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.ready.clear()
        self.send(number)

    def ask_to_stop(self) -> None:
        """Send SIGTERM, and start it no more."""
        self._stopping.set()
        self.send(signal.SIGTERM)

    def await_end(self, deadline: float) -> None:
        """Wait for the end, by force at the deadline."""
        self.thread.join(max(0.0, deadline - time.monotonic()))
        if self.thread.is_alive():
            self.send(signal.SIGKILL)
            self.thread.join(_KILL_SECONDS)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            started = time.monotonic()
            offset = _make_room(self.program.log_path)
            try:
                process = self._start()
            except OSError as error:
                self._problem = f"{self.program.name} cannot be started: {error}"
            else:
                self._follow(process, offset)
            if self._stopping.is_set():
                break
            delay = self._backoff.delay(time.monotonic() - started)
            self._change(ProgramState.WAITING)
            self._stopping.wait(delay)
        self._change(ProgramState.STOPPED)

    def _start(self) -> subprocess.Popen[bytes]:
        process = start_tethered(
            self.program.argv,
            environment=self.program.environment,
            directory=self.program.directory,
            output=self.program.log_path,
        )
        with self._lock:
            self._process = process
            self._starts += 1
        self._change(ProgramState.STARTING)
        if self._stopping.is_set():
            # `ask_to_stop` came between the decision to start and the start: its SIGTERM found nothing.
            self.send(signal.SIGTERM)
        return process

    def _follow(self, process: subprocess.Popen[bytes], offset: int) -> None:
        """Return when the process has ended."""
        while process.poll() is None:
            if self._state is ProgramState.RUNNING:
                _make_room(self.program.log_path)
            elif self._is_ready(offset):
                self._was_ready = True
                self._change(ProgramState.RUNNING)
                self.ready.set()
            time.sleep(_POLL_SECONDS)
        with self._lock:
            self._process = None
            self._exit_code = process.returncode
        self.ready.clear()
        if process.stdin is not None:
            process.stdin.close()

    def _is_ready(self, offset: int) -> bool:
        if self.program.ready_line is None:
            return True
        with self.program.log_path.open("rb") as log:
            log.seek(offset)
            lines = log.read().decode(errors="replace").split("\n")
        # The last piece may be half a line.
        return any(line.startswith(self.program.ready_line) for line in lines[:-1])

    def _change(self, state: ProgramState) -> None:
        self._state = state
        self._on_change(self.program.name)


def _make_room(log_path: Path) -> int:
    """Put a large log aside, one generation; returns the size of the log that goes on.

    The program goes on writing to the file that it has open, at its new end: it appends.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    try:
        size = log_path.stat().st_size
    except FileNotFoundError:
        return 0
    if size > _LARGE_LOG_BYTES:
        shutil.copyfile(log_path, log_path.with_suffix(".old.log"))
        os.truncate(log_path, 0)
        return 0
    return size


def _rss_bytes(pid: int | None) -> int:
    if pid is None:
        return 0
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.Error:
            continue
    return total
