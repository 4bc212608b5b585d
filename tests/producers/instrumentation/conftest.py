"""A provider on this machine, and a tracker that keeps its events, for each test of an integration."""

from collections.abc import Iterator

import pytest
from support.model_server import ModelServer, Recorder


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A provider that answers what the test lays down."""
    server = ModelServer()
    yield server
    server.close()


@pytest.fixture
def recorder() -> Recorder:
    """What was tracked."""
    return Recorder()
