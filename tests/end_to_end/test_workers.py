"""Workers that get in each other's way say so."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokentide.console.stack import Stack


@pytest.mark.slow
def test_two_workers_of_one_name_are_told_to_take_two(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", meters=1, sinks=0, partitions=2) as running:
        second = tmp_path / "second.log"
        with second.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tokentide.console.cli", "worker", "meter"],
                env={**os.environ, **running.environment, "TOKENTIDE_WORKER": "meter-1"},
                cwd=tmp_path,
                stdout=log,
                stderr=log,
            )
        logs = [second, *(status.log_path for status in running.statuses() if status.name == "meter-1")]
        try:
            deadline = time.monotonic() + 90
            while not any("give each its own with TOKENTIDE_WORKER" in path.read_text() for path in logs):
                assert time.monotonic() < deadline, [path.read_text()[-500:] for path in logs]
                time.sleep(0.5)
        finally:
            process.kill()
            process.wait()
