"""A pytest plugin for services: the fixture `usage_events` is the list of what the code under test tracked."""

from collections.abc import Iterator

import pytest

from tokentide.producers.memory import MEMORY, capturing
from tokentide.schemas import UsageEvent

__all__ = ["usage_events"]


@pytest.fixture
def usage_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[UsageEvent]]:
    """The events that the code under test tracked, in order; nothing is sent, and no Kafka is needed.

    Producers made from the environment in the test do not even make a client; others, made before it, keep their
    events here too.
    """
    monkeypatch.setenv("TOKENTIDE_BROKER", MEMORY)
    with capturing() as events:
        yield events
