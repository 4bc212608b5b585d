"""The embedded Kafka as a program in the foreground."""

import signal
import sys
import time
from pathlib import Path

from tokentide.console.kafka.cluster import KafkaCluster

__all__ = ["run"]

_CHECK_SECONDS = 0.5


def run(data_dir: Path, port: int, nodes: int = 1) -> None:
    """Serve on the ports `port`, `port` + 1 ... until SIGINT, SIGTERM or SIGHUP; prints `ready <bootstrap>` first.

    To be called in the main thread. Raises what `KafkaCluster.start` raises, and `ServiceUnavailableError`
    when a node ends by itself; nothing is left running in any case.
    """
    stop_signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, signal.default_int_handler) for number in stop_signals}
    cluster = KafkaCluster(
        data_dir, nodes=nodes, ports=range(port, port + nodes), progress=sys.stderr.isatty()
    )
    try:
        cluster.start()
        print(f"ready {cluster.bootstrap}", flush=True)
        while True:
            cluster.check()
            time.sleep(_CHECK_SECONDS)
    except KeyboardInterrupt:
        pass
    finally:
        # An impatient second signal must not leave half of the nodes to SIGKILL.
        for number in stop_signals:
            signal.signal(number, signal.SIG_IGN)
        cluster.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)
