"""A Kafka that does not answer for a while."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tokentide.console.kafka import KafkaCluster


@contextmanager
def frozen(cluster: KafkaCluster) -> Iterator[None]:
    """Stop the only node of the cluster, and let it go on afterwards."""
    (pid,) = cluster.pids.values()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
