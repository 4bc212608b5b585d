"""Doors in front of one real Kafka."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.door import Door, create_topic, open_door


@pytest.fixture(scope="session")
def door_topic(kafka: str) -> str:
    """A topic for all doors of the tests."""
    topic = f"ingest-{uuid.uuid4().hex}"
    create_topic(kafka, topic)
    return topic


@pytest.fixture(scope="session")
def door(kafka: str, door_topic: str) -> Iterator[Door]:
    """A door without keys."""
    with open_door(kafka, door_topic) as running:
        yield running


@pytest.fixture(scope="session")
def narrow_door(kafka: str, door_topic: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door with keys, and room for few bytes."""
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(
        '[[key]]\nname = "mobile"\nsecret = "the-secret-of-mobile"\nservice = "app"\nteam_id = "growth"\n'
        '[[key]]\nname = "backend"\nsecret = "the-secret-of-backend"\n'
    )
    limits = {"TOKENTIDE_INGEST_MAX_BODY_BYTES": "3000", "TOKENTIDE_INGEST_MAX_IN_FLIGHT_BYTES": "4000"}
    with open_door(
        kafka, door_topic, "--host", "0.0.0.0", TOKENTIDE_INGEST_KEYS_FILE=str(Path(keys)), **limits
    ) as running:
        running.address = running.address.replace("0.0.0.0", "127.0.0.1")
        yield running
