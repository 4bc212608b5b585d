"""The Kafka nodes of an arena, which may be killed, stopped, frozen and come back while others are."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError as AioKafkaError  # type: ignore[import-untyped]
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest  # type: ignore[import-untyped]
from confluent_kafka import ElectionType, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from tokentide.console.kafka.cluster import KafkaCluster

__all__ = ["Brokers"]

_CLEANER = {"log.cleaner.backoff.ms": "2000"}
_STOP_SECONDS = 4.0
_REASSIGN_SECONDS = 20.0


class Brokers:
    """A cluster of one node or three; what is done to a node is over when `wait` returns."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self._cluster = KafkaCluster(folder, nodes=nodes)
        self._lock = threading.Lock()
        self._under_way: list[threading.Thread] = []
        self._problems: list[Exception] = []

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes."""
        return self._cluster.bootstrap

    @contextmanager
    def open(self) -> Iterator["Brokers"]:
        """Start the nodes, with a log cleaner that looks every two seconds, and stop them at the end."""
        with self._cluster:
            entries = [
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in _CLEANER.items()
            ]
            # In a variable: a client that is collected takes its answers along.
            admin = self._admin()
            for node in self._cluster.pids:
                resource = ConfigResource(ResourceType.BROKER, str(node), incremental_configs=entries)
                for answer in admin.incremental_alter_configs([resource]).values():
                    answer.result(20)
            yield self
            with suppress(Exception):
                self.wait()

    def strike(self, kind: str, node: int, seconds: float) -> bool:
        """Kill, stop or freeze a node, which is back after so many seconds; return whether it was hit.

        It is not when it is away already, or while another one starts: that waits for all that run.
        """
        pid = self._cluster.pids.get(node)
        if pid is None:
            return False
        if kind == "freeze":
            os.kill(pid, signal.SIGSTOP)
            self._later(seconds, self._thaw, pid)
            return True
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if kind == "term":
                os.kill(pid, signal.SIGTERM)
                deadline = time.monotonic() + _STOP_SECONDS
                while node in self._cluster.pids and time.monotonic() < deadline:
                    time.sleep(0.05)
            self._cluster.kill(node)
        finally:
            self._lock.release()
        self._later(seconds, self._restart, node)
        return True

    def elect(self) -> None:
        """Move leaders back to the nodes that led at first; no partition that needs it is no error."""
        admin = self._admin()
        with suppress(KafkaException, TimeoutError):
            admin.elect_leaders(ElectionType.PREFERRED).result(20)

    def reassign(self, topics: Sequence[str], shift: int) -> bool:
        """Give every partition of the topics other leaders: the next nodes by `shift` in its list of replicas.

        Returns whether Kafka took it: while nodes are away it may not answer.
        """
        try:
            asyncio.run(asyncio.wait_for(self._reassign(topics, shift), _REASSIGN_SECONDS))
        except (AioKafkaError, KafkaException, TimeoutError):
            return False
        self.elect()
        return True

    async def _reassign(self, topics: Sequence[str], shift: int) -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        known = self._admin().list_topics(timeout=20).topics
        moved: list[tuple[str, list[Any], dict[int, bytes]]] = [
            (
                topic,
                [
                    (number, [*partition.replicas[shift:], *partition.replicas[:shift]], {})
                    for number, partition in known[topic].partitions.items()
                ],
                {},
            )
            for topic in topics
        ]
        try:
            await client.start()
            request = AlterPartitionReassignmentsRequest(20_000, moved, {})
            await client._send_to_controller(request)
        finally:
            await client.close()

    def wait(self) -> None:
        """Return when every node is back; raises what kept one from coming back."""
        while self._under_way:
            self._under_way.pop().join()
        if self._problems:
            raise self._problems.pop()

    def _later(self, seconds: float, back: Callable[[int], None], number: int) -> None:
        def guarded() -> None:
            time.sleep(seconds)
            try:
                back(number)
            except Exception as error:
                self._problems.append(error)

        thread = threading.Thread(target=guarded, name=back.__name__)
        self._under_way.append(thread)
        thread.start()

    def _thaw(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _restart(self, node: int) -> None:
        with self._lock:
            self._cluster.restart(node)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
