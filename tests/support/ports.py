"""Ports for servers that stand next to each other."""

from contextlib import suppress

from tokentide.console.kafka.ports import free_ports
from tokentide.schemas import ServiceUnavailableError

__all__ = ["ports_in_a_row"]


def ports_in_a_row(count: int) -> int:
    """The first of so many free ports with consecutive numbers, all of which are given out to nobody else."""
    while True:
        (first,) = free_ports(1)
        others = range(first + 1, first + count)
        with suppress(ServiceUnavailableError):
            free_ports(len(others), taken=set(range(1, 65536)).difference(others))
            return first
