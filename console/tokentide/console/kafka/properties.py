"""server.properties of the embedded nodes."""

from collections.abc import Sequence

from tokentide.console.kafka.ports import HOST

__all__ = ["LOG_DIRECTORY", "server_properties"]

LOG_DIRECTORY = "log"

# Records up to 4 MiB, and room for the batch around them.
_MESSAGE_MAX_BYTES = 5 * 1024 * 1024

_FIXED = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # Ours are created by `topics init`; a typo must not make a topic.
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(_MESSAGE_MAX_BYTES),
    "replica.fetch.max.bytes": str(_MESSAGE_MAX_BYTES),
    # One laptop, few groups: 50 partitions for each internal topic would only cost files and start time.
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.num.partitions": "8",
    # A pipeline that stood still for a holiday goes on where it was; the default forgets after a week.
    "offsets.retention.minutes": str(366 * 24 * 60),
    "group.initial.rebalance.delay.ms": "0",
    # Tests and the demo want to see a dead consumer soon; each consumer still chooses its own timeout.
    "group.min.session.timeout.ms": "1000",
    # A node killed with -9 comes back, or its leaders move, after this instead of nine seconds.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # The defaults are made for a server: 128 MB for compaction, and threads for hundreds of clients.
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "4",
}


def server_properties(node: int, *, ports: Sequence[int], controller_ports: Sequence[int]) -> str:
    """The text of server.properties for the node with this number, counted from 1.

    `ports` and `controller_ports` hold one entry for every node of the cluster, in the order of the numbers.
    Three nodes keep three copies of everything and accept a write when two have it; one node keeps one.
    """
    copies = len(ports)
    in_sync = max(1, copies - 1)
    port, controller_port = ports[node - 1], controller_ports[node - 1]
    voters = ",".join(f"{voter}@{HOST}:{port}" for voter, port in enumerate(controller_ports, start=1))
    own = {
        "node.id": str(node),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        # Relative to the node's own directory, where it is started: commas, blanks and umlauts cannot hurt.
        "log.dirs": LOG_DIRECTORY,
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(copies),
        "share.coordinator.state.topic.min.isr": str(in_sync),
    }
    return "".join(f"{name}={value}\n" for name, value in (own | _FIXED).items())
