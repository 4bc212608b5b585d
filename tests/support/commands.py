"""The `tokentide` command as people run it: a process, with an exit code and two streams."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COMMAND", "Answer", "run", "variables"]

COMMAND = (sys.executable, "-W", "error::DeprecationWarning:tokentide", "-m", "tokentide.console.cli")


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str
    seconds: float


def variables(**settings: str) -> dict[str, str]:
    """The environment without the tokentide settings of whoever runs the tests, and with these."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("TOKENTIDE_")}
    # The cache of Kafka's jars stays the same: it is no setting of the pipeline.
    cache = {name: os.environ[name] for name in ("TOKENTIDE_CACHE_DIR",) if name in os.environ}
    return inherited | cache | settings


def run(*arguments: str, environment: Mapping[str, str] | None = None, timeout_seconds: float = 60) -> Answer:
    """Run the command to its end."""
    started = time.monotonic()
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=variables(**(environment or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
    )
    return Answer(done.returncode, done.stdout, done.stderr, time.monotonic() - started)
