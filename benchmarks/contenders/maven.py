"""Jars for the contenders that run on Java: `NAME.jars` lists them, a line each, with coordinates and sha256."""

import hashlib
import sys
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.maven import MavenContext


def jars(listed: Path) -> list[Path]:
    """Return the jars of a list; what this environment lacks is downloaded.

    The repositories of the user's jgo.conf are asked first, as for the embedded Kafka.
    """
    repositories = GlobalSettings.load().repositories | MavenContext().remote_repos
    context = MavenContext(repo_cache=Path(sys.prefix) / "jars", remote_repos=repositories)
    return [pinned(context, *line.split()) for line in listed.read_text().splitlines()]


def pinned(context: MavenContext, coordinates: str, sha256: str) -> Path:
    """Return one jar that has this sha256; any other ends the program."""
    group, artifact, version = coordinates.split(":")
    path = context.project(group, artifact).at_version(version).artifact().resolve()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        path.unlink()
        sys.exit(f"{path.name} has the sha256 {found}, not {sha256}")
    return path
