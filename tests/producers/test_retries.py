"""Events that came back wait, longer and longer while Kafka takes none."""

from tokentide.producers.retries import Retries
from tokentide.producers.spool_ticket import Ticket


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def seconds_until_due(retries: Retries, clock: Clock) -> float:
    """Wait for the first event, and take it out."""
    began = clock.seconds
    while retries.due() is None:
        clock.seconds += 0.25
    retries.remove_first()
    return clock.seconds - began


def test_an_event_that_comes_back_again_and_again_waits_longer() -> None:
    clock = Clock()
    retries, ticket = Retries(clock), Ticket()
    waits = []
    for _ in range(7):
        retries.put(ticket)
        waits.append(seconds_until_due(retries, clock))

    assert waits == [1, 2, 4, 8, 10, 10, 10]

    retries.answered()
    retries.put(ticket)
    assert seconds_until_due(retries, clock) == 1


def test_many_that_come_back_at_once_wait_as_long_as_one_and_in_their_order() -> None:
    clock = Clock()
    retries, tickets = Retries(clock), [Ticket() for _ in range(100)]
    for ticket in tickets:
        retries.put(ticket)
    assert retries.due() is None

    clock.seconds += 1
    taken = []
    while (due := retries.due()) is not None:
        taken.append(due)
        retries.remove_first()
    assert taken == tickets


def test_an_answer_of_kafka_brings_forward_what_waits_long() -> None:
    clock = Clock()
    retries, ticket = Retries(clock), Ticket()
    for _ in range(4):
        retries.put(ticket)
        seconds_until_due(retries, clock)
    retries.put(ticket)
    clock.seconds += 2
    assert retries.due() is None

    retries.answered()
    assert retries.due() is ticket
