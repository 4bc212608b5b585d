"""What `store` promises when Kafka is not there; tests over HTTP show the rest."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tokentide.console.ingest import IngestSettings
from tokentide.console.ingest.outlet import Outlet
from tokentide.producers.cloud_event import Record
from tokentide.schemas import KafkaSettings, ServiceUnavailableError, SettingsError

NOWHERE = IngestSettings(kafka=KafkaSettings(broker="127.0.0.1:1"), ack_timeout_seconds=0.5).producer()
RECORDS = [Record(b"u", b"{}", [])] * 3


@pytest.fixture
def outlet() -> Iterator[Outlet]:
    """To a broker that refuses connections."""
    made = Outlet(NOWHERE, pytest.fail)
    yield made
    made.close()


def test_what_is_not_stored_in_time_is_an_error(outlet: Outlet) -> None:
    with pytest.raises(ServiceUnavailableError, match="Message timed out"):
        asyncio.run(outlet.store(RECORDS))


def test_nothing_is_stored_at_once(outlet: Outlet) -> None:
    asyncio.run(outlet.store([]))


def test_a_cluster_that_does_not_answer_is_not_ready(outlet: Outlet) -> None:
    assert outlet.is_ready(0.1) is False


def test_a_queue_that_is_full_is_an_error_that_says_how_far_it_came() -> None:
    outlet = Outlet(replace(NOWHERE, queue_events=2), pytest.fail)

    with pytest.raises(ServiceUnavailableError, match="takes no more after 2 of 3 events"):
        asyncio.run(outlet.store(RECORDS))

    outlet.close()


def test_closing_ends_its_thread() -> None:
    before = threading.active_count()
    outlet = Outlet(NOWHERE, pytest.fail)

    outlet.close()

    assert threading.active_count() == before


def test_settings_that_librdkafka_refuses_are_wrong_use() -> None:
    kafka = KafkaSettings(security_protocol="TELNET")

    with pytest.raises(SettingsError, match='Invalid value "TELNET"'):
        Outlet(replace(NOWHERE, kafka=kafka), pytest.fail)
