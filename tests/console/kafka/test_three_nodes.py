"""Three nodes: a write is on two before it is acked, so the loss of one loses nothing."""

from pathlib import Path

import pytest
from support.records import Records

from tokentide.console.kafka import KafkaCluster


@pytest.mark.slow
def test_a_node_killed_among_writes_loses_none_that_was_acked(jars: list[Path], tmp_path: Path) -> None:
    with KafkaCluster(tmp_path, nodes=3) as cluster:
        records = Records(cluster.bootstrap)
        records.create(replicas=3)

        acked = records.produce(4000, halfway=lambda: cluster.kill(2))
        survivors = set(cluster.pids)
        found = records.read()
        cluster.restart(2)
        acked += records.produce(1000, first=4000)

        assert survivors == {1, 3}
        assert set(cluster.pids) == {1, 2, 3}
        assert len(acked) == 5000
        assert found == acked[:4000]
        assert records.read() == acked
