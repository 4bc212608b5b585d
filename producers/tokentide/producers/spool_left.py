"""What lies in the spools on this machine, and how it is brought on its way by hand."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from tokentide.producers.segment import Segment
from tokentide.producers.spool_folder import (
    Destination,
    default_roots,
    destination_folder,
    destinations,
    hold,
    new_owner,
    owners,
)

__all__ = ["Left", "left", "revive", "roots", "take_over"]


@dataclass(frozen=True, slots=True)
class Left:
    """What lies in the folder of one owner, or in one file that was kept aside."""

    path: Path
    destination: Destination
    state: str
    """live: its process runs; dead: the next process sends it; expired, corrupt: kept aside."""
    events: int
    """That Kafka has not, as far as the files say."""
    size: int
    """Bytes."""
    oldest: float | None
    """Unix seconds at which the oldest segment was begun."""


def roots(chosen: str | None) -> list[Path]:
    """Return the folders in which spools may lie: the chosen one, else the default ones."""
    return [Path(chosen)] if chosen else default_roots()


def left(root: Path) -> list[Left]:
    """Return what lies under the root, by destination and age; what cannot be read is left out."""
    found = []
    for folder, destination in destinations(root):
        for owner in owners(folder):
            descriptor = hold(owner)
            if descriptor is not None:
                os.close(descriptor)
            state = "live" if descriptor is None else "dead"
            found.append(_look(owner, destination, state, sorted(owner.glob("*.segment"))))
        for state in ("expired", "corrupt"):
            found += [_look(path, destination, state, [path]) for path in sorted(folder.glob(f"*.{state}"))]
    return found


def _look(path: Path, destination: Destination, state: str, files: list[Path]) -> Left:
    events, size, made = 0, 0, list[float]()
    for file in files:
        with contextlib.suppress(OSError):
            segment = Segment.found(file)
            events += segment.waiting
            size += file.stat().st_size
            made += [segment.made] if segment.waiting else []
    return Left(path, destination, state, events, size, min(made, default=None))


def revive(root: Path, destination: Destination) -> None:
    """Have the segments of a destination that were kept aside for their age sent after all. Raises OSError."""
    folder = destination_folder(root, destination)
    for path in sorted(folder.glob("*.expired")):
        owner, descriptor = new_owner(folder)
        path.rename(owner / "00000001.segment")
        os.close(descriptor)


def take_over(root: Path, destination: Destination) -> None:
    """Have what dead processes left for other brokers or topics sent to this destination. Raises OSError."""
    target = destination_folder(root, destination)
    for folder, _ in destinations(root):
        for owner in owners(folder) if folder != target else ():
            descriptor = hold(owner)
            if descriptor is not None:
                owner.rename(target / owner.name)
                os.close(descriptor)
