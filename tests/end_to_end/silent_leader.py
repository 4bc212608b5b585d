"""A member that leads a Faust app's group and gives out no partitions: `silent_leader.py BROKER GROUP TOPIC`.

It prints `leads`, and stays until it is killed.
"""

import asyncio
import sys
import time
from typing import Any

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata  # type: ignore[import-untyped]


class Silent:
    """An assignor under the name of Faust's protocol."""

    name = "faust"

    @classmethod
    def metadata(cls, topics: Any) -> Any:
        """Say what a member wants."""
        return ConsumerProtocolMemberMetadata(0, list(topics), b"")

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> dict[str, Any]:
        """Hold the rebalance up: as in a leader that is frozen, nothing else of this process runs meanwhile."""
        print("leads", flush=True)
        while True:
            time.sleep(60)


async def main() -> None:
    """Join the group; the coordinator shall not give this member up before the test has ended."""
    bootstrap, group, topic = sys.argv[1:]
    await AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        session_timeout_ms=300_000,
        heartbeat_interval_ms=100_000,
        partition_assignment_strategy=[Silent],
    ).start()


if __name__ == "__main__":
    asyncio.run(main())
