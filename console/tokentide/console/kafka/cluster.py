"""A Kafka cluster of one node or three on this machine."""

import base64
import contextlib
import json
import os
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tokentide.console.kafka.jars import ensure_jars
from tokentide.console.kafka.node import Node
from tokentide.console.kafka.occupancy import Occupancy
from tokentide.console.kafka.ports import HOST, check_port, free_ports
from tokentide.schemas.errors import ServiceUnavailableError, SettingsError

__all__ = ["KafkaCluster"]

_IDENTITY = "cluster.json"
_START_SECONDS = 120.0
_STOP_SECONDS = 6.0
_POLL_SECONDS = 0.05
_SIZES = (1, 3)


class KafkaCluster:
    """Real Apache Kafka on loopback, with its data in one directory; `with` starts and stops it.

    `start` formats an empty directory and goes on with the data of a used one: what was acked before `stop`
    or before a SIGKILL is there again. Ports may change between starts; the number of nodes may not. One
    process at a time may use a data directory. The brokers die with this process, however it dies. Not
    thread-safe.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        nodes: int = 1,
        ports: Sequence[int] | None = None,
        cache_dir: Path | None = None,
        progress: bool = False,
    ) -> None:
        """`ports`: one for each node, for clients; free ones are taken when it is None."""
        if nodes not in _SIZES:
            raise SettingsError(f"An embedded Kafka has 1 node or 3, not {nodes}.")
        if ports is not None and (len(ports) != nodes or len(set(ports)) != nodes):
            raise SettingsError(f"{nodes} Kafka nodes need {nodes} different ports, not {list(ports)}.")
        self._data_dir = data_dir.expanduser().resolve()
        self._count = nodes
        self._wanted_ports = ports
        self._cache_dir = cache_dir
        self._progress = progress
        self._ports: Sequence[int] = ()
        self._nodes: list[Node] = []
        self._occupancy = Occupancy(self._data_dir)

    @property
    def bootstrap(self) -> str:
        """All nodes as `bootstrap.servers` wants them; empty before `start`."""
        return ",".join(f"{HOST}:{port}" for port in self._ports)

    @property
    def pids(self) -> dict[int, int]:
        """The Java processes that run, by node number."""
        return {node.number: node.pid for node in self._nodes if node.pid is not None}

    @property
    def log_paths(self) -> list[Path]:
        """The brokers' logs, `<data_dir>/node-1/server.log` and so on."""
        return [self._data_dir / f"node-{number}" / "server.log" for number in range(1, self._count + 1)]

    def start(self) -> None:
        """Return when every node answers and knows all others; nothing is left running when it raises.

        Raises `SettingsError` for a taken port or data directory and for a wrong number of nodes,
        `ServiceUnavailableError` when the jars cannot be had or the brokers do not answer within 120 s.
        """
        if self._nodes:
            raise ValueError("the cluster runs already")
        self._occupancy.take()
        try:
            cluster_id = self._identity()
            self._choose_ports()
            jars = ensure_jars(self._cache_dir, progress=self._progress)
            self._nodes = [
                Node(number, self._data_dir / f"node-{number}", jars) for number in range(1, self._count + 1)
            ]
            controller_ports = free_ports(self._count, taken=self._ports)
            for node in self._nodes:
                node.configure(ports=self._ports, controller_ports=controller_ports)
            self._format(cluster_id)
            for node in self._nodes:
                node.start([self._occupancy.fileno()])
            self._await_nodes()
        except BaseException:
            for node in self._nodes:
                node.await_end(0)
            self._forget()
            raise

    def stop(self) -> None:
        """End all nodes in order, by force after 6 s; harmless when nothing runs."""
        deadline = time.monotonic() + _STOP_SECONDS
        for node in self._nodes:
            node.ask_to_stop()
        for node in self._nodes:
            node.await_end(deadline - time.monotonic())
        self._forget()

    def kill(self, node: int) -> None:
        """End the node with this number by SIGKILL, as a crash would."""
        self._node(node).await_end(0)

    def restart(self, node: int) -> None:
        """Start the node, stopped first if it runs, on its old ports; returns when all that run answer."""
        chosen = self._node(node)
        chosen.ask_to_stop()
        chosen.await_end(_STOP_SECONDS)
        chosen.start([self._occupancy.fileno()])
        self._await_nodes()

    def check(self) -> None:
        """Raise `ServiceUnavailableError` with its last log lines when a started node has ended by itself."""
        for node in self._nodes:
            if node.has_crashed:
                raise ServiceUnavailableError(f"Kafka node {node.number} has ended:\n{node.last_words()}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _node(self, number: int) -> Node:
        for node in self._nodes:
            if node.number == number:
                return node
        raise ValueError(f"no node {number} in this cluster of {len(self._nodes)}")

    def _forget(self) -> None:
        self._nodes = []
        self._ports = ()
        self._occupancy.release()

    def _choose_ports(self) -> None:
        if self._wanted_ports is None:
            self._ports = free_ports(self._count)
        else:
            for port in self._wanted_ports:
                check_port(
                    port,
                    f"choose another port, or use the Kafka that runs there with --broker {HOST}:{port}",
                )
            self._ports = list(self._wanted_ports)

    def _identity(self) -> str:
        """The cluster id of the data directory, made up at its first start."""
        path = self._data_dir / _IDENTITY
        if path.exists():
            identity = json.loads(path.read_text(encoding="utf-8"))
            if identity["nodes"] != self._count:
                raise SettingsError(
                    f"{self._data_dir} holds a Kafka of {identity['nodes']} nodes, not {self._count}; "
                    f"start it with {identity['nodes']} or choose another data directory."
                )
            return str(identity["cluster_id"])
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps({"cluster_id": cluster_id, "nodes": self._count}), encoding="utf-8")
        os.replace(unfinished, path)
        return cluster_id

    def _format(self, cluster_id: str) -> None:
        with ThreadPoolExecutor(self._count) as pool:
            formatting = [pool.submit(n.format, cluster_id) for n in self._nodes if not n.is_formatted]
        for formatted in formatting:
            formatted.result()

    def _await_nodes(self) -> None:
        """Ask each running node until it names all of them: only then it serves, and the others know it.

        One client a node, since the metadata of a node that is up may still hold the others' past lives.
        """
        deadline = time.monotonic() + _START_SECONDS
        ports = {port for node, port in zip(self._nodes, self._ports, strict=True) if node.pid is not None}
        waiting = {port: _quiet_client(port) for port in ports}
        while waiting:
            self.check()
            if time.monotonic() > deadline:
                words = "\n".join(node.last_words() for node in self._nodes)
                silent = f"{len(waiting)} of {len(ports)} Kafka nodes"
                raise ServiceUnavailableError(f"{silent} gave no answer in {_START_SECONDS:.0f} s:\n{words}")
            for port, client in list(waiting.items()):
                with contextlib.suppress(KafkaException):
                    brokers = client.list_topics(timeout=1).brokers.values()
                    if ports <= {broker.port for broker in brokers}:
                        del waiting[port]
            time.sleep(_POLL_SECONDS)


def _quiet_client(port: int) -> AdminClient:
    return AdminClient(
        {
            "bootstrap.servers": f"{HOST}:{port}",
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 200,
            # Refused connections are what we wait out; librdkafka would print each of them.
            "log_level": 0,
        }
    )
