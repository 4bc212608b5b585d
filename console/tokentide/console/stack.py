"""The whole pipeline on this machine: Kafka, ClickHouse and the workers, as child processes."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tokentide.console.broker import reach
from tokentide.console.ingest.keys import KeyRing
from tokentide.console.ingest.settings import IngestSettings, base_url
from tokentide.console.kafka.occupancy import Occupancy
from tokentide.console.kafka.ports import HOST, check_port, free_ports
from tokentide.console.program import Program, ProgramStatus
from tokentide.console.settings import ConsoleSettings
from tokentide.console.supervisor import Supervisor
from tokentide.console.topics import ensure_topics
from tokentide.schemas import Environment, KafkaSettings, SettingsError
from tokentide.schemas.gauge import MetricsSettings
from tokentide.sinks.migration import migrate

__all__ = ["Stack", "StackProcess"]

# The first start loads Kafka's jars; it ends earlier when the child gives up.
_SERVER_SECONDS = 600.0
_WORKER_SECONDS = 90.0
# Stages stop from high to low; with these limits everything has ended within 10 s.
_SERVER_STAGE, _KAFKA_STAGE, _WORKER_STAGE = 1, 0, 2
_DOOR = "ingest"
_WORKER_STOP_SECONDS, _CLICKHOUSE_STOP_SECONDS, _KAFKA_STOP_SECONDS = 4.0, 2.0, 3.0


@dataclass(frozen=True)
class StackProcess:
    """A child that runs: its memory includes its descendants."""

    pid: int
    rss_bytes: int


class Stack:
    """Kafka and ClickHouse (each embedded, unless an address is given), topics, tables and workers in `data_dir`.

    With an `ingest_port`, the HTTP door too.

    A context manager that starts and stops all; a second start goes on with the data of the first. One process at
    a time may use a data directory, and no child outlives this process. Children that crash are started again.
    Not thread-safe, but for `on_change`, which is called from other threads with the name of a child.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        broker: str | None = None,
        clickhouse_url: str | None = None,
        meters: int = 1,
        sinks: int = 1,
        partitions: int | None = None,
        kafka_port: int | None = None,
        clickhouse_port: int | None = None,
        ingest_port: int | None = None,
        variables: Mapping[str, str] | None = None,
        on_change: Callable[[str], None] = lambda _name: None,
    ) -> None:
        """`variables` stands for the environment; a server's port that is None is chosen among the free ones.

        Raises SettingsError for a wrong setting, and for a door that everybody could enter.
        """
        if meters < 0 or sinks < 0:
            raise SettingsError("--meters and --sinks cannot be negative.")
        self._data_dir = data_dir.expanduser().resolve()
        self._variables = dict(os.environ if variables is None else variables)
        self._broker = broker
        self._clickhouse_url = clickhouse_url
        self._ports = {"kafka": kafka_port, "clickhouse": clickhouse_port}
        self._workers = [f"meter-{number}" for number in range(1, meters + 1)]
        self._workers += [f"sink-{number}" for number in range(1, sinks + 1)]
        self._settings = ConsoleSettings.from_env(
            self._variables, broker=broker, clickhouse_url=clickhouse_url, partitions=partitions
        )
        self._door = (
            None if ingest_port is None else IngestSettings.from_env(self._variables, port=ingest_port)
        )
        if self._door is not None:
            KeyRing.read(self._door)
        environment = Environment(self._variables)
        self._metrics = MetricsSettings.read(environment)
        environment.check()
        self._occupancy = Occupancy(self._data_dir)
        self._supervisor = Supervisor(on_change=on_change)

    @property
    def settings(self) -> ConsoleSettings:
        """The settings for clients of this stack; the addresses are right after `start_servers`."""
        return self._settings

    @property
    def environment(self) -> dict[str, str]:
        """The `TOKENTIDE_*` variables with which any other command talks to this stack."""
        return self._settings.environment()

    @property
    def bootstrap(self) -> str:
        """The address of Kafka."""
        return self._settings.kafka.broker

    @property
    def clickhouse_url(self) -> str:
        """The address of ClickHouse."""
        return self._settings.clickhouse.url

    @property
    def metrics_urls(self) -> dict[str, str]:
        """Where each worker serves its metrics: the first at TOKENTIDE_METRICS_PORT, each next one a port higher."""
        first, host = self._metrics.port, self._metrics.host
        return {
            name: f"http://{host}:{port}/metrics"
            for port, name in enumerate(self._workers if first else [], first)
        }

    @property
    def ingest_url(self) -> str | None:
        """Where services without an SDK send their usage; None without a door."""
        if self._door is None:
            return None
        return f"{base_url(self._door.host, self._door.port)}/v1/usage"

    @property
    def processes(self) -> dict[str, StackProcess]:
        """The children that run now, by name: kafka, clickhouse, meter-1, sink-1, ingest, ..."""
        return {
            status.name: StackProcess(status.pid, status.rss_bytes)
            for status in self.statuses()
            if status.pid is not None
        }

    def statuses(self) -> list[ProgramStatus]:
        """Look at all children, also those that wait for their next start."""
        return self._supervisor.statuses()

    def start(self) -> None:
        """Start everything and return when every worker is ready; nothing is left running when it raises.

        Raises SettingsError for a taken port or data directory, a wrong setting or topics of another shape,
        ServiceUnavailableError when a part does not come up.
        """
        self.start_servers()
        try:
            self.start_workers()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def start_servers(self) -> None:
        """Start Kafka and ClickHouse, and return when topics and tables are there; raises as `start` does."""
        self._occupancy.take()
        try:
            if self._door is not None:
                check_port(self._door.port, "choose another port with --ingest-port", self._door.host)
            names = []
            if self._broker is None:
                names.append(self._launch_kafka())
            if self._clickhouse_url is None:
                names.append(self._launch_clickhouse())
            self._supervisor.wait_ready(names, timeout_seconds=_SERVER_SECONDS)
            ensure_topics(reach(self._settings.kafka), self._settings.topic_plans())
            migrate(self._settings.clickhouse)
        except BaseException:
            self.stop()
            raise

    def start_workers(self) -> None:
        """Start the meters, the sinks and the door, and return at once; `wait_ready` waits for them."""
        for place, name in enumerate(self._workers):
            kind = name.partition("-")[0]
            work_dir = self._data_dir / name
            work_dir.mkdir(parents=True, exist_ok=True)
            worker = {"TOKENTIDE_WORKER": name, "TOKENTIDE_WORK_DIR": str(work_dir)}
            if self._metrics.port:
                worker["TOKENTIDE_METRICS_PORT"] = str(self._metrics.port + place)
            self._launch(name, ["worker", kind], _WORKER_STAGE, _WORKER_STOP_SECONDS, worker)
        if self._door is not None:
            arguments = ["ingest", "--port", str(self._door.port)]
            self._launch(_DOOR, arguments, _WORKER_STAGE, _WORKER_STOP_SECONDS)

    def wait_ready(self, timeout_seconds: float = _WORKER_SECONDS) -> None:
        """Return when all of them have printed that they are ready; raises when one ends first, or too late."""
        names = self._workers if self._door is None else [*self._workers, _DOOR]
        self._supervisor.wait_ready(names, timeout_seconds=timeout_seconds)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send the child a signal; a child that dies of it is started again."""
        self._supervisor.kill(name, number)

    def stop(self) -> None:
        """End workers, ClickHouse and Kafka, in this order, within 10 s; harmless when nothing runs."""
        self._supervisor.stop()
        self._occupancy.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch_kafka(self) -> str:
        port = self._port("kafka", "--broker")
        # The embedded broker speaks plain text: credentials in the environment are for another one.
        self._settings = replace(self._settings, kafka=KafkaSettings(f"{HOST}:{port}"))
        arguments = ["kafka", "--data", str(self._data_dir / "kafka"), "--port", str(port)]
        return self._launch("kafka", [*arguments, "--nodes", "1"], _KAFKA_STAGE, _KAFKA_STOP_SECONDS)

    def _launch_clickhouse(self) -> str:
        port = self._port("clickhouse", "--clickhouse")
        address = f"http://{HOST}:{port}"
        self._settings = replace(self._settings, clickhouse=replace(self._settings.clickhouse, url=address))
        path = str(self._data_dir / "clickhouse")
        arguments = ["clickhouse", "--path", path, "--port", str(port)]
        return self._launch("clickhouse", arguments, _SERVER_STAGE, _CLICKHOUSE_STOP_SECONDS)

    def _launch(
        self,
        name: str,
        arguments: list[str],
        stage: int,
        stop_seconds: float,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        self._supervisor.launch(
            Program(
                name,
                [sys.executable, "-m", "tokentide.console.cli", *arguments],
                environment={**self._inherited(), **self.environment, **(variables or {})},
                log_path=self._data_dir / "logs" / f"{name}.log",
                directory=self._data_dir,
                ready_line="ready",
                stage=stage,
                stop_seconds=stop_seconds,
            )
        )
        return name

    def _inherited(self) -> dict[str, str]:
        """The environment without what `environment` decides, and with output that reaches the log at once."""
        ours = ConsoleSettings.variable_names()
        return {name: value for name, value in self._variables.items() if name not in ours} | {
            "PYTHONUNBUFFERED": "1"
        }

    def _port(self, server: str, way_out: str) -> int:
        port = self._ports[server]
        if port is None:
            return free_ports(1)[0]
        check_port(port, f"choose another port with --{server}-port, or use what runs there with {way_out}")
        return port
