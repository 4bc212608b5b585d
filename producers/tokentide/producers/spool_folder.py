"""Where spools lie: a folder for each topic of a broker, in it one for each owner, who holds its lock."""

import contextlib
import hashlib
import json
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokentide.producers.segment import Segment
from tokentide.producers.spool import Spool

if sys.platform != "win32":
    import fcntl

__all__ = [
    "Destination",
    "adopt",
    "bytes_of",
    "default_roots",
    "destination_folder",
    "destinations",
    "hold",
    "new_lock",
    "new_owner",
    "owners",
]

_NAME = "destination.json"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the events of a folder are to be sent."""

    broker: str
    topic: str


def default_roots(variables: Mapping[str, str] | None = None) -> list[Path]:
    """Return where spools are kept unless a setting says it: the user's state folder, else the temporary one."""
    known = os.environ if variables is None else variables
    state = known.get("XDG_STATE_HOME")
    if state:
        first = Path(state)
    else:
        home = Path(known.get("HOME") or os.path.expanduser("~"))
        first = (
            home / "Library" / "Application Support" if sys.platform == "darwin" else home / ".local/state"
        )
    user = os.getuid() if sys.platform != "win32" else 0
    return [first / "tokentide" / "spool", Path(tempfile.gettempdir()) / f"tokentide-{user}-spool"]


def destination_folder(root: Path, destination: Destination) -> Path:
    """Return the folder of a destination, made when it is missing.

    Raises OSError when it cannot be written or belongs to somebody else.
    """
    digest = hashlib.sha256(f"{destination.broker}\x1f{destination.topic}".encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", destination.topic)[:64]
    folder = root / f"{name}-{digest}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in (root, folder):
        if sys.platform != "win32" and each.stat().st_uid not in (os.getuid(), 0):
            raise PermissionError(f"{each} belongs to another user")
    if not (folder / _NAME).exists():
        new = folder / f".{uuid.uuid4().hex}"
        new.write_text(json.dumps({"broker": destination.broker, "topic": destination.topic}))
        new.rename(folder / _NAME)
    return folder


def destinations(root: Path) -> Iterator[tuple[Path, Destination]]:
    """Yield the folders of all destinations."""
    for path in sorted(root.glob(f"*/{_NAME}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(path.read_text())
            yield path.parent, Destination(said["broker"], said["topic"])


def new_owner(destination: Path) -> tuple[Path, int]:
    """Make a folder of our own; return it and the descriptor that holds its lock. Raises OSError."""
    if sys.platform == "win32":
        raise OSError("this platform has no file locks that end with their process")
    name = f"{time.time_ns():020}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    # Under a name that nobody adopts until the lock is held.
    hidden = destination / f".{name}"
    hidden.mkdir(mode=0o700)
    descriptor = new_lock(hidden)
    try:
        hidden.rename(destination / name)
    except OSError:
        os.close(descriptor)
        raise
    return destination / name, descriptor


def new_lock(folder: Path) -> int:
    """Make the lock of a folder of our own; return the descriptor that holds it. Raises OSError."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def owners(destination: Path) -> list[Path]:
    """Return the folders of all owners, dead or alive, oldest first."""
    try:
        found = [Path(each.path) for each in os.scandir(destination) if each.is_dir()]
    except OSError:
        return []
    return sorted(path for path in found if not path.name.startswith("."))


def adopt(folder: Path, most_age_seconds: float) -> Spool | None:
    """Return the spool of a dead owner, whose lock is ours now; None when the owner lives, or another was faster.

    Segments older than `most_age_seconds` are kept aside as `*.expired`: whether their last events were stored is
    unknown, and the meter may no longer remember their ids. Raises OSError when a segment cannot be read now: a spool
    without it would be deleted with it.
    """
    descriptor = hold(folder)
    if descriptor is None:
        return None
    segments = []
    try:
        for path in sorted(folder.glob("*.segment")):
            if not path.is_file():
                continue  # somebody else's
            segment = Segment.found(path)
            if segment.waiting and time.time() - segment.made > most_age_seconds:
                path.rename(folder.with_name(f"{folder.name}-{path.stem}.expired"))
            else:
                segments.append(segment)
    except OSError:
        os.close(descriptor)
        raise
    return Spool(folder, descriptor, segments)


def hold(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a dead owner; None when it lives, or its folder is gone."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # whoever deleted it died before the last step
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def bytes_of(destination: Path, but: Path) -> int:
    """Return how many bytes the segments of all other owners take."""
    total = 0
    for folder in owners(destination):
        if folder != but:
            with contextlib.suppress(OSError):
                total += sum(
                    each.stat().st_size for each in os.scandir(folder) if each.name.endswith(".segment")
                )
    return total
