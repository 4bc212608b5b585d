"""The Kafka nodes of an arena, which may be killed, stopped, frozen and come back while others are."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from confluent_kafka import ElectionType, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from tokentide.console.kafka.cluster import KafkaCluster

__all__ = ["Brokers"]

_CLEANER = {"log.cleaner.backoff.ms": "500"}


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
        """Start the nodes, with a log cleaner that looks twice a second, and stop them at the end."""
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
        """Kill, stop or freeze a node for so many seconds, and return at once: whether it was there to be hit."""
        pid = self._cluster.pids.get(node)
        if pid is None:
            return False
        if kind == "freeze":
            os.kill(pid, signal.SIGSTOP)
            back: Callable[[int, int], None] = self._thaw
        else:
            back = self._restart
            os.kill(pid, signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        thread = threading.Thread(target=self._guarded, args=(back, node, pid, seconds), name=f"kafka-{node}")
        self._under_way.append(thread)
        thread.start()
        return True

    def elect(self) -> None:
        """Move leaders back to the nodes that led at first; no partition that needs it is no error."""
        admin = self._admin()
        with suppress(KafkaException):
            admin.elect_leaders(ElectionType.PREFERRED).result(20)

    def wait(self) -> None:
        """Return when every node is back; raises what kept one from coming back."""
        while self._under_way:
            self._under_way.pop().join()
        if self._problems:
            raise self._problems.pop()

    def _guarded(self, back: Callable[[int, int], None], node: int, pid: int, seconds: float) -> None:
        time.sleep(seconds)
        try:
            back(node, pid)
        except Exception as error:
            self._problems.append(error)

    def _thaw(self, node: int, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _restart(self, node: int, pid: int) -> None:
        # One at a time: the cluster is for one thread. It waits for those that are frozen, which thaw by themselves.
        with self._lock:
            self._cluster.restart(node)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
