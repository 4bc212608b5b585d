"""The cache of Kafka's jars: fetched once, from a mirror on loopback here, and never trusted when it was touched."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.commands import run, variables

from tokentide.console.kafka.jars import cache_directory, ensure_jars, locked_jars

REFUSING = "http://127.0.0.1:1"


class Requests(SimpleHTTPRequestHandler):
    """Serves files, and remembers which were asked for."""

    asked: list[str]

    def __init__(self, *arguments: object, asked: list[str], **options: object) -> None:
        self.asked = asked
        super().__init__(*arguments, **options)  # type: ignore[arg-type]  # as the server calls it

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: a failure shows in the answer."""


class Mirror:
    """A Maven repository on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        handler = partial(Requests, directory=str(folder), asked=self.asked)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def mirror(jars: list[Path], tmp_path: Path) -> Iterator[Mirror]:
    """A repository that has every jar."""
    folder = tmp_path / "mirror"
    for jar, path in zip(locked_jars(), jars, strict=True):
        place = folder.joinpath(*jar.group.split("."), jar.artifact, jar.version)
        place.mkdir(parents=True)
        (place / jar.filename).symlink_to(path)
    mirror = Mirror(folder)
    yield mirror
    mirror.close()


def home_with(tmp_path: Path, repository: str) -> dict[str, str]:
    """Variables of a user whose jgo knows only this repository, and who has no jars yet."""
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    text = f"[settings]\nrepo_cache = {home / 'm2'}\n[repositories]\ncentral = {repository}\n"
    (home / ".config" / "jgo.conf").write_text(text)
    return {"HOME": str(home), "TOKENTIDE_CACHE_DIR": str(tmp_path / "cache")}


FILL = "from tokentide.console.kafka import ensure_jars; print(*ensure_jars(progress=False), sep='\\n')"


def filling(environment: dict[str, str]) -> "subprocess.Popen[str]":
    """A process that fills the cache and prints the paths."""
    return subprocess.Popen(
        [sys.executable, "-c", FILL],
        env=variables(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def filled(environment: dict[str, str]) -> list[Path]:
    """The paths that such a process gives."""
    out, err = filling(environment).communicate(timeout=120)
    assert err == ""
    return [Path(line) for line in out.splitlines()]


def test_two_processes_fill_one_cache_and_fetch_each_jar_once(
    mirror: Mirror, jars: list[Path], tmp_path: Path
) -> None:
    environment = home_with(tmp_path, mirror.url)

    both = [filling(environment) for _ in range(2)]
    (first, first_errors), (second, second_errors) = [each.communicate(timeout=120) for each in both]

    paths = [Path(line) for line in first.splitlines()]
    assert (first_errors, second_errors) == ("", "")
    assert second == first
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in jars]
    fetched = [path for path in mirror.asked if path.endswith(".jar")]
    assert len(fetched) == len(set(fetched)) == len(jars)
    assert not (paths[0].parent / "staging").exists()


def test_a_half_a_changed_and_a_lost_jar_are_fetched_again_and_no_other(
    mirror: Mirror, jars: list[Path], tmp_path: Path
) -> None:
    environment = home_with(tmp_path, mirror.url)
    half, changed, lost, *_ = paths = filled(environment)
    half.write_bytes(half.read_bytes()[:1000])
    changed.write_bytes(changed.read_bytes()[:-1] + b"?")
    lost.unlink()
    mirror.asked.clear()

    again = filled(environment)

    assert again == paths
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in jars]
    assert sorted(Path(path).name for path in mirror.asked if path.endswith(".jar")) == sorted(
        path.name for path in (half, changed, lost)
    )


def test_a_full_cache_asks_nobody(mirror: Mirror, tmp_path: Path) -> None:
    environment = home_with(tmp_path, mirror.url)
    paths = filled(environment)
    mirror.close()

    assert filled(environment) == paths


def test_a_jar_that_the_mirror_has_in_another_form_is_never_used(mirror: Mirror, tmp_path: Path) -> None:
    victim = locked_jars()[5]
    [path] = mirror.folder.rglob(victim.filename)
    path.unlink()
    path.write_bytes(b"PK\x03\x04 something else")

    refused = run(
        *("kafka", "--data", str(tmp_path / "data"), "--port", "19092"),
        environment=home_with(tmp_path, mirror.url),
    )

    assert refused.code == 1
    assert f"Cannot download {victim.filename} of Apache Kafka from a Maven repository (wrong sha256)" in (
        refused.err
    )
    assert not list((tmp_path / "cache").rglob(victim.filename))


def test_without_a_repository_one_sentence_names_the_ways_out(tmp_path: Path) -> None:
    refused = run(
        *("kafka", "--data", str(tmp_path / "data"), "--port", "19092"),
        environment=home_with(tmp_path, REFUSING),
    )

    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert refused.err.startswith("Cannot download ")
    assert refused.err.endswith(
        " of Apache Kafka from a Maven repository (ConnectionError): name your own Kafka with --broker host:port, "
        "or run one with Docker (docker compose up), or fill the cache "
        f"{tmp_path / 'cache'} on a machine with network and copy it here.\n"
    )


def test_jars_of_the_local_maven_repository_are_lent(mirror: Mirror, tmp_path: Path) -> None:
    environment = home_with(tmp_path, REFUSING)
    os.symlink(mirror.folder, Path(environment["HOME"]) / "m2")

    paths = filled(environment)

    assert [path.name for path in paths] == [jar.filename for jar in locked_jars()]
    assert mirror.asked == []


def test_a_cache_that_cannot_be_written_is_named(jars: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")

    refused = run(
        *("kafka", "--data", str(tmp_path / "data"), "--port", "19092"),
        environment=home_with(tmp_path, REFUSING),
    )

    assert refused.code == 2
    assert f"Cannot write to {tmp_path / 'cache'}" in refused.err
    assert ensure_jars(progress=False) == jars


@pytest.mark.parametrize(
    ("environment", "end"),
    [
        ({"TOKENTIDE_CACHE_DIR": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/tokentide"),
        ({}, "tokentide"),
    ],
)
def test_the_cache_is_where_the_platform_keeps_caches(environment: dict[str, str], end: str) -> None:
    assert str(cache_directory(environment)).endswith(end)
