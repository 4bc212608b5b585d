"""One node: what a client may rely on, and what is refused."""

import os
import re
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient
from support.records import Records

from tokentide.console.kafka import KafkaCluster
from tokentide.schemas.errors import ServiceUnavailableError, SettingsError


def test_a_topic_is_not_made_by_a_typo(cluster: KafkaCluster) -> None:
    errors: list[KafkaError | None] = []
    producer = Producer(
        {"bootstrap.servers": cluster.bootstrap, "topic.metadata.propagation.max.ms": 100, "log_level": 0}
    )

    producer.produce("usage.evnets", b"?", on_delivery=lambda error, _message: errors.append(error))
    producer.flush(20)

    assert [error and error.code() for error in errors] == [KafkaError.UNKNOWN_TOPIC_OR_PART]
    topics = AdminClient({"bootstrap.servers": cluster.bootstrap}).list_topics(timeout=10).topics
    assert "usage.evnets" not in topics


def test_a_record_of_four_megabytes_fits(cluster: KafkaCluster) -> None:
    Records(cluster.bootstrap).create()
    errors: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "message.max.bytes": 5_000_000})

    producer.produce(
        Records.topic,
        os.urandom(4 * 1024 * 1024),
        on_delivery=lambda error, _message: errors.append(error),
    )
    producer.flush(20)

    assert errors == [None]


def test_the_log_can_be_read(cluster: KafkaCluster) -> None:
    [path] = cluster.log_paths

    text = path.read_text()

    assert path.parent.name == "node-1"
    assert re.search(r"^\d{4}-\d\d-\d\dT[\d:,]+ INFO +KafkaRaftServer: .*Kafka Server started", text, re.M)
    assert (path.parent / "jvm.log").read_text() == ""


def test_only_loopback_is_served(cluster: KafkaCluster) -> None:
    [pid] = cluster.pids.values()

    listening = [c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"]

    assert set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert len(listening) == 2


def test_a_data_directory_in_use_is_refused_with_the_pid(cluster: KafkaCluster) -> None:
    data_dir = cluster.log_paths[0].parent.parent

    with pytest.raises(SettingsError, match=rf"in use by the process {os.getpid()};"):
        KafkaCluster(data_dir).start()


def test_a_taken_port_is_refused_by_its_number(cluster: KafkaCluster, tmp_path: Path) -> None:
    port = int(cluster.bootstrap.rpartition(":")[2])

    with pytest.raises(SettingsError, match=rf"Port {port} .* cannot be used .*--broker 127\.0\.0\.1:{port}"):
        KafkaCluster(tmp_path, ports=[port]).start()


def test_a_used_directory_keeps_its_number_of_nodes(jars: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"cluster_id": "8vVNFzHdQSCbYYPvzYb9Fg", "nodes": 3}')

    with pytest.raises(SettingsError, match="holds a Kafka of 3 nodes, not 1"):
        KafkaCluster(tmp_path).start()


@pytest.mark.parametrize(
    ("nodes", "ports", "words"),
    [(2, None, "1 node or 3, not 2"), (3, [19092], "3 different ports"), (1, [0], "0 is no TCP port")],
)
def test_wrong_use_is_named(tmp_path: Path, nodes: int, ports: list[int] | None, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        KafkaCluster(tmp_path, nodes=nodes, ports=ports).start()


@pytest.mark.slow
def test_records_survive_stop_and_kill_and_new_ports(jars: list[Path], tmp_path: Path) -> None:
    data_dir = tmp_path / "a name, with blank and ü"
    with KafkaCluster(data_dir) as cluster:
        Records(cluster.bootstrap).create()
        acked = Records(cluster.bootstrap).produce(1000)
        first_ports = cluster.bootstrap
    assert len(acked) == 1000

    with KafkaCluster(data_dir) as cluster:
        assert cluster.bootstrap != first_ports
        assert Records(cluster.bootstrap).read() == acked
        acked += Records(cluster.bootstrap).produce(1000, first=1000)
        cluster.kill(1)
        assert cluster.pids == {}
        cluster.restart(1)
        found = Records(cluster.bootstrap).read()

    assert len(acked) == 2000
    assert found == acked


def test_a_node_that_ends_by_itself_is_reported_with_its_log(jars: list[Path], tmp_path: Path) -> None:
    with KafkaCluster(tmp_path) as cluster:
        cluster.check()
        [pid] = cluster.pids.values()
        psutil.Process(pid).kill()
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)

        with pytest.raises(ServiceUnavailableError, match=r"Kafka node 1 has ended:\n(.*\n)*.* INFO "):
            cluster.check()


def test_a_broker_that_cannot_start_says_why(jars: list[Path], tmp_path: Path) -> None:
    with KafkaCluster(tmp_path):
        pass
    meta = tmp_path / "node-1" / "log" / "meta.properties"
    meta.write_text(re.sub(r"node.id=1", "node.id=7", meta.read_text()))

    with pytest.raises(ServiceUnavailableError, match=r"node.id|node ID|nodeId"):
        KafkaCluster(tmp_path).start()


def test_a_cluster_id_may_begin_with_a_dash(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"cluster_id": "-bU4NLhhQVG08PRpbUU8Lg", "nodes": 1}')

    with KafkaCluster(tmp_path) as cluster:
        metadata = AdminClient({"bootstrap.servers": cluster.bootstrap}).list_topics(timeout=10)

    assert metadata.cluster_id == "-bU4NLhhQVG08PRpbUU8Lg"
