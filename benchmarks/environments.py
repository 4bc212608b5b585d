"""The environments of the contenders: each has one of its own, so that none changes what another one installs."""

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
CONTENDERS = FOLDER / "contenders"
ENVIRONMENTS = FOLDER / ".envs"
_INSTALL_SECONDS = 1200


class EnvironmentFailedError(Exception):
    """What a contender needs cannot be installed; the text says which command failed, and how."""


def names() -> list[str]:
    """Return the contenders: each has NAME.py and NAME.txt."""
    return sorted(path.stem for path in CONTENDERS.glob("*.txt") if path.with_suffix(".py").exists())


def make(name: str) -> Path:
    """Return the Python of the contender's environment, which is made when it is missing or NAME.txt has changed.

    Raises EnvironmentFailedError.
    """
    requirements = CONTENDERS / f"{name}.txt"
    environment = ENVIRONMENTS / name
    python = environment / "bin" / "python"
    # The text and not the time of the file: a checkout touches files.
    stamp = environment / "installed.txt"
    if python.exists() and stamp.exists() and stamp.read_text() == requirements.read_text():
        return python
    shutil.rmtree(environment, ignore_errors=True)
    for command in _commands(environment, python, requirements):
        _run(command)
    stamp.write_text(requirements.read_text())
    return python


def _commands(environment: Path, python: Path, requirements: Path) -> list[list[str]]:
    # Some contenders have no wheels for what is newer.
    base = shutil.which("python3.11") or sys.executable
    if uv := shutil.which("uv"):
        return [
            [uv, "venv", "--quiet", "--python", base, str(environment)],
            [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)],
        ]
    return [
        [base, "-m", "venv", str(environment)],
        [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            str(requirements),
        ],
    ]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailedError(f"{' '.join(command)} took longer than {_INSTALL_SECONDS} s") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise EnvironmentFailedError(f"{' '.join(command)} failed: {words}")
