"""The producer of a process that nobody had to make."""

from collections.abc import Iterator

import pytest

from tokentide.producers import UsageProducer
from tokentide.producers.default import default_producer, set_default_producer
from tokentide.schemas import SettingsError


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = set_default_producer(None)
    yield
    made = set_default_producer(before)
    if made is not None:
        made.close(0)


def test_it_is_made_once_from_the_environment(monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    monkeypatch.setenv("TOKENTIDE_BROKER", nowhere)

    assert default_producer() is default_producer()


def test_a_service_may_set_its_own(nowhere: str) -> None:
    with UsageProducer(broker=nowhere) as own:
        set_default_producer(own)

        assert default_producer() is own
        assert set_default_producer(None) is own


def test_a_wrong_environment_is_said_and_asked_again(monkeypatch: pytest.MonkeyPatch, nowhere: str) -> None:
    monkeypatch.setenv("TOKENTIDE_BROKER", nowhere)
    monkeypatch.setenv("TOKENTIDE_PRODUCER_LINGER_MS", "soon")
    with pytest.raises(SettingsError, match="TOKENTIDE_PRODUCER_LINGER_MS"):
        default_producer()

    monkeypatch.delenv("TOKENTIDE_PRODUCER_LINGER_MS")

    assert default_producer() is default_producer()
