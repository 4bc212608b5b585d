"""What a run leaves behind in Kafka: groups with their commits, and topics of its own.

A contender names its group as it likes. If its commits stayed, its next run would begin where the last one ended.
"""

import contextlib
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_REQUEST_SECONDS = 30
# A member that was killed belongs to its group until its session is over.
_SESSION_SECONDS = 90.0


@dataclass(frozen=True)
class Leftovers:
    """Knows what was there before a run, and removes what has come since."""

    admin: AdminClient
    topics: frozenset[str]
    groups: frozenset[str]

    @classmethod
    def after(cls, broker: str) -> "Leftovers":
        """Look at what is there; it stays."""
        admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
        return cls(admin, _topics(admin), _groups(admin))

    def remove_groups(self) -> None:
        """Delete new groups, and return when they are gone. Raises TimeoutError when one keeps its members."""
        deadline = time.monotonic() + _SESSION_SECONDS
        while groups := sorted(_groups(self.admin) - self.groups):
            if time.monotonic() > deadline:
                raise TimeoutError(f"a group that cannot be deleted after the run: {', '.join(groups)}")
            _wait(self.admin.delete_consumer_groups(groups, request_timeout=_REQUEST_SECONDS))
            time.sleep(0.5)

    def remove_topics(self) -> None:
        """Delete new topics, and return when they are gone. Raises TimeoutError when one stays."""
        deadline = time.monotonic() + _SESSION_SECONDS
        while topics := sorted(_topics(self.admin) - self.topics):
            if time.monotonic() > deadline:
                raise TimeoutError(f"a topic that cannot be deleted after the run: {', '.join(topics)}")
            _wait(self.admin.delete_topics(topics, operation_timeout=_REQUEST_SECONDS))
            time.sleep(0.2)


def _wait(futures: "Mapping[str, Future[None]]") -> None:
    """Wait for all; what failed is tried again by the caller."""
    for future in futures.values():
        with contextlib.suppress(KafkaException):
            future.result()


def _topics(admin: AdminClient) -> frozenset[str]:
    # Kafka's own topic of offsets is made by the first commit, and belongs to all.
    return frozenset(
        name for name in admin.list_topics(timeout=_REQUEST_SECONDS).topics if not name.startswith("__")
    )


def _groups(admin: AdminClient) -> frozenset[str]:
    listed = admin.list_consumer_groups(request_timeout=_REQUEST_SECONDS).result()
    return frozenset(group.group_id for group in listed.valid)
