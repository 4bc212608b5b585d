"""Telling a stage that never ran from one whose changelog is gone."""

from collections.abc import Callable

from tokentide.schemas import DataLossError

__all__ = ["Committed", "check_not_lost"]

Committed = Callable[[str, int], int | None]
"""Returns the offset that the group has committed for a topic and partition, None for none; it may block."""


def check_not_lost(changelog: str, topic: str, partition: int, committed: Committed) -> None:
    """Return when nothing of the partition was ever counted; call it when its changelog does not say how far it is.

    Every commit follows a delivered record of the changelog that does. Raises DataLossError when there was a
    commit: to begin with empty totals now would publish wrong ones.
    """
    counted = committed(topic, partition)
    if counted:
        raise DataLossError(
            f"the state is lost: {topic}[{partition}] was counted up to offset {counted}, but {changelog} does not "
            "hold it any more; stop all meters, run `tokentide topics init` and `tokentide rebuild`, and start them"
        )
