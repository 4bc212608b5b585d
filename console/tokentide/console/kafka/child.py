"""Programs that die with this process, however it dies."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

__all__ = ["start_tethered"]

_TETHER = Path(__file__).with_name("tether.py")
_WAY = "kernel" if sys.platform == "linux" else "pipe"

_Start = tuple[Future[subprocess.Popen[bytes]], Sequence[str], Mapping[str, str], Path, Path, Sequence[int]]
_starts: queue.SimpleQueue[_Start] = queue.SimpleQueue()
_starter: threading.Thread | None = None
_starter_lock = threading.Lock()


def start_tethered(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path,
    output: Path,
    descriptors: Sequence[int] = (),
    way: str = _WAY,
) -> subprocess.Popen[bytes]:
    """Start the program in `directory`, its output going to a file; it dies when this process does.

    May be called from any thread. The program is in a session of its own: Ctrl-C in the terminal reaches only
    us, and we stop it in order. The caller closes the stdin of the result after its end.
    """
    tethered = [sys.executable, "-I", "-S", str(_TETHER), way, str(os.getpid()), *command]
    started: Future[subprocess.Popen[bytes]] = Future()
    _starts.put((started, tethered, environment, directory, output, descriptors))
    _ensure_starter()
    return started.result()


def _ensure_starter() -> None:
    """Run the thread that forks: PR_SET_PDEATHSIG fires when the forking *thread* ends, so it never does."""
    global _starter
    with _starter_lock:
        if _starter is None or not _starter.is_alive():
            _starter = threading.Thread(target=_serve, name="tokentide-child-starter", daemon=True)
            _starter.start()


def _serve() -> None:
    while True:
        started, command, environment, directory, output, descriptors = _starts.get()
        try:
            with output.open("ab") as sink:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    cwd=directory,
                    pass_fds=descriptors,
                    start_new_session=True,
                )
        except BaseException as error:
            started.set_exception(error)
        else:
            started.set_result(process)
