"""What a run leaves behind in Kafka: groups with their commits, and topics of its own.

A contender names its group as it likes. If its commits stayed, its next run would begin where the last one ended.
"""

import contextlib
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

_REQUEST_SECONDS = 30
# A member that did not leave belongs to its group until its session is over.
_SESSION_SECONDS = 90.0


class Leftovers:
    """Knows what was there at first, and what each run has added. For one run at a time."""

    def __init__(self, broker: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
        self._topics = self._list_topics()
        self._known = self._list_groups()
        self._groups: dict[str, frozenset[str]] = {}

    def clear(self, name: str) -> None:
        """Before a run: delete the groups of the last run of this name. Raises TimeoutError when one stays.

        Not after it, for then members that did not leave would have to be waited for.
        """
        groups = self._groups.pop(name, frozenset())
        # They come again, in the run that begins.
        self._known -= groups
        deadline = time.monotonic() + _SESSION_SECONDS
        while left := groups & self._list_groups():
            _check(deadline, left)
            _wait(self._admin.delete_consumer_groups(sorted(left), request_timeout=_REQUEST_SECONDS))
            time.sleep(0.5)

    def gather(self, name: str) -> None:
        """After a run: note its groups, delete its topics. Raises TimeoutError when one stays."""
        groups = self._list_groups()
        self._groups[name] = groups - self._known
        self._known |= groups
        deadline = time.monotonic() + _SESSION_SECONDS
        while left := self._list_topics() - self._topics:
            _check(deadline, left)
            _wait(self._admin.delete_topics(sorted(left), operation_timeout=_REQUEST_SECONDS))
            time.sleep(0.2)

    def _list_topics(self) -> frozenset[str]:
        # Kafka's own topic of offsets is made by the first commit, and belongs to all.
        topics = self._admin.list_topics(timeout=_REQUEST_SECONDS).topics
        return frozenset(name for name in topics if not name.startswith("__"))

    def _list_groups(self) -> frozenset[str]:
        listed = self._admin.list_consumer_groups(request_timeout=_REQUEST_SECONDS).result()
        return frozenset(group.group_id for group in listed.valid)


def _check(deadline: float, left: Iterable[str]) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"Kafka does not delete what the last run left: {', '.join(sorted(left))}")


def _wait(futures: "Mapping[str, Future[None]]") -> None:
    """Wait for all; what failed is tried again by the caller."""
    for future in futures.values():
        with contextlib.suppress(KafkaException):
            future.result()
