"""Fetching locked jars from the user's Maven repositories, several at a time."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tokentide.console.kafka.jars import Jar
from tokentide.schemas.errors import ServiceUnavailableError

try:
    from jgo.config import GlobalSettings
    from jgo.maven import Artifact, MavenContext, PythonResolver
except ImportError as error:
    raise ImportError("The embedded Kafka needs jgo: pip install 'tokentide[embedded]'") from error

__all__ = ["download"]

_AT_ONCE = 8
_ATTEMPTS = 2
_TIMEOUT_SECONDS = 15


def download(jars: Sequence[Jar], staging: Path, *, progress: bool) -> Iterator[tuple[Jar, Path]]:
    """Yield each jar with a verified file under `staging`, in the order in which they arrive.

    The user's jgo settings are honoured: the repositories in jgo.conf are asked first, and jars that lie in
    the local Maven repository are not fetched again. Raises `ServiceUnavailableError` at the first jar that
    cannot be had.
    """
    bar = Progress(
        TextColumn("Apache Kafka, first start only"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("jars, {task.fields[megabytes]:.0f} MB"),
        console=Console(stderr=True),
        disable=not progress,
    )
    with bar, ThreadPoolExecutor(_AT_ONCE) as pool:
        task = bar.add_task("", total=len(jars), megabytes=0.0)
        source = _Source(staging)
        running = {pool.submit(source.fetch, jar): jar for jar in jars}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
                bar.update(task, advance=1, megabytes=source.received / 1e6)
        finally:
            pool.shutdown(cancel_futures=True)


class _Source:
    """Where jars come from: the local Maven repository when it has the right bytes, else the remote ones."""

    def __init__(self, staging: Path) -> None:
        settings = GlobalSettings.load()
        # jgo's own default is the last resort, unless the user has given its name to a mirror.
        remotes = settings.repositories | {
            name: address
            for name, address in MavenContext().remote_repos.items()
            if name not in settings.repositories
        }
        self._local = MavenContext(repo_cache=settings.repo_cache, offline=True)
        self._remote = MavenContext(
            PythonResolver(progress_callback=self._meter),
            repo_cache=staging,
            remote_repos=remotes,
            timeout=_TIMEOUT_SECONDS,
        )
        # What the message names: <cache>/kafka-<digest>/staging is our staging directory.
        self._cache = staging.parent.parent
        self.received = 0

    def fetch(self, jar: Jar) -> Path:
        """Put the jar under the staging directory, verified; thread-safe."""
        target = _cached_path(self._remote, jar)
        lent = _cached_path(self._local, jar)
        if lent.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(lent, target)
            if _sha256(target) == jar.sha256:
                return target

        problem = ""
        for _ in range(_ATTEMPTS):
            target.unlink(missing_ok=True)
            try:
                _artifact(self._remote, jar).resolve()
            # jgo lets the errors of requests through, which are OSErrors without errno, and adds its own.
            except (OSError, RuntimeError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                problem = type(error).__name__
                continue
            if _sha256(target) == jar.sha256:
                return target
            problem = "wrong sha256"
        raise ServiceUnavailableError(
            f"Cannot download {jar.filename} of Apache Kafka from a Maven repository ({problem}): name your "
            "own Kafka with --broker host:port, or run one with Docker (docker compose up), or fill the "
            f"cache {self._cache} on a machine with network and copy it here."
        )

    @contextlib.contextmanager
    def _meter(self, _filename: str, _size: int) -> Iterator[Callable[[int], None]]:
        def count(size: int) -> None:
            self.received += size

        yield count


def _artifact(context: MavenContext, jar: Jar) -> Artifact:
    return context.project(jar.group, jar.artifact).at_version(jar.version).artifact()


def _cached_path(context: MavenContext, jar: Jar) -> Path:
    path = _artifact(context, jar).cached_path
    assert path is not None, "each of our contexts has a repository directory"
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
