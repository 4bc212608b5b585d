"""The jars of Apache Kafka: locked by sha256 in `jgo.lock.toml`, fetched once into the user's cache."""

import hashlib
import json
import os
import shutil
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokentide.console.kafka.occupancy import Occupancy

__all__ = ["Jar", "cache_directory", "ensure_jars", "locked_jars"]

_LOCK_FILE = Path(__file__).with_name("jgo.lock.toml")
_MARKER = "verified.json"


@dataclass(frozen=True, slots=True)
class Jar:
    """One artifact of the lock file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """The name in a Maven repository, unique among the locked jars."""
        return f"{self.artifact}-{self.version}.jar"


def locked_jars() -> list[Jar]:
    """The jars of the lock file that is shipped in this package, in the order of the class path."""
    lock = tomllib.loads(_LOCK_FILE.read_text(encoding="utf-8"))
    return [
        Jar(entry["groupId"], entry["artifactId"], entry["version"], entry["sha256"])
        for entry in lock["dependencies"]
    ]


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where downloads are kept: $TOKENTIDE_CACHE_DIR, else the platform's own place for caches."""
    if chosen := environment.get("TOKENTIDE_CACHE_DIR"):
        return Path(chosen).expanduser()
    if xdg := environment.get("XDG_CACHE_HOME"):
        return Path(xdg) / "tokentide"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tokentide"
    return Path.home() / ".cache" / "tokentide"


def ensure_jars(cache_dir: Path | None = None, *, progress: bool) -> list[Path]:
    """The verified jars for the class path; what is missing or broken in the cache is downloaded.

    A jar whose size and modification time are those of its last verification is trusted; any other is hashed
    again. May block for minutes at the first start (54 MB), and while another process does the same. Raises
    `ServiceUnavailableError` when jars are missing and no Maven repository can be reached.
    """
    wanted = locked_jars()
    # A new lock file gets a new directory: jars of two Kafka versions never meet on a class path.
    digest = hashlib.sha256("".join(jar.sha256 for jar in wanted).encode()).hexdigest()[:12]
    directory = (cache_dir or cache_directory()) / f"kafka-{digest}"
    paths = [directory / jar.filename for jar in wanted]
    if not _suspects(directory, wanted, _read_marker(directory)):
        return paths

    with Occupancy(directory).wait():
        suspects = _suspects(directory, wanted, _read_marker(directory))
        missing = [jar for jar in suspects if not _is_intact(directory / jar.filename, jar)]
        if missing:
            _fetch(missing, directory, progress=progress)
        _write_marker(directory, wanted)
    return paths


def _fetch(missing: Sequence[Jar], directory: Path, *, progress: bool) -> None:
    """Download into a staging directory; a jar is moved to its place only when its sha256 is right."""
    # Imported late: a start with a full cache needs neither jgo nor the quarter second that its import takes.
    from tokentide.console.kafka.downloads import download

    staging = directory / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        for jar, path in download(missing, staging, progress=progress):
            os.replace(path, directory / jar.filename)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_intact(path: Path, jar: Jar) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _suspects(directory: Path, wanted: Sequence[Jar], marker: Mapping[str, object]) -> list[Jar]:
    """The jars that are not exactly as they were when they were verified."""
    stamps = {jar: _stamp(directory / jar.filename, jar.sha256) for jar in wanted}
    return [jar for jar, stamp in stamps.items() if stamp is None or marker.get(jar.filename) != stamp]


def _stamp(path: Path, sha256: str) -> list[object] | None:
    """What the marker says about a jar that nobody touched after its verification; None for no file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [sha256, status.st_size, status.st_mtime_ns]


def _read_marker(directory: Path) -> Mapping[str, object]:
    try:
        marker = json.loads((directory / _MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def _write_marker(directory: Path, wanted: Sequence[Jar]) -> None:
    marker = {jar.filename: _stamp(directory / jar.filename, jar.sha256) for jar in wanted}
    unfinished = directory / f"{_MARKER}.part"
    unfinished.write_text(json.dumps(marker, indent=1), encoding="utf-8")
    os.replace(unfinished, directory / _MARKER)
