"""How far the pipeline is behind: records that are stored in Kafka and not yet dealt with."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tokentide.console.broker import QUIET, reach
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import ServiceUnavailableError, SettingsError
from tokentide.schemas.failures import Handling, kafka_handling

__all__ = ["LagReader", "pipeline_lag", "wait_until_settled"]

_REQUEST_SECONDS = 15.0
_LOOK_SECONDS = 0.5
_PAUSE_SECONDS = 0.1

# A topic and the number of one of its partitions.
_Place = tuple[str, int]


class LagReader:
    """Looks at the lag of one pipeline, again and again over the same connections; a context manager.

    Raises SettingsError when a topic is missing, ServiceUnavailableError when Kafka does not answer. For one
    thread at a time.
    """

    def __init__(self, settings: ConsoleSettings) -> None:
        topics = settings.topics
        reads = {
            settings.meter_id: (topics.events, topics.priced, topics.spend),
            settings.sink_id: (topics.priced, topics.spend, topics.alerts, topics.rejected),
        }
        existing = reach(settings.kafka).metadata.topics
        missing = sorted({name for names in reads.values() for name in names} - existing.keys())
        if missing:
            raise SettingsError(
                f"{settings.kafka.broker} lacks the topics {', '.join(missing)}; create them with "
                "`tokentide topics init`."
            )
        self._address = settings.kafka.broker
        self._places = {
            group: [(name, number) for name in names for number in sorted(existing[name].partitions)]
            for group, names in reads.items()
        }
        # Asked as a consumer that never joins: librdkafka's admin client ends in a segmentation fault when the
        # coordinator of the group is not there yet, as on a cluster that has just started.
        self._clients = {
            group: Consumer(
                {
                    **settings.kafka.librdkafka(),
                    **QUIET,
                    "group.id": group,
                    "client.id": "tokentide-lag",
                    "enable.auto.commit": False,
                    "error_cb": lambda _error: None,
                }
            )
            for group in reads
        }

    def read(self) -> dict[str, int]:
        """Return topic -> records behind, summed over the groups that read it.

        A partition without a commit, or with one that retention has overtaken, counts from its first record.
        The commits are read first: what a stage publishes, it publishes before it commits, so when nothing is
        behind, nothing is under way. Waits for a leader or coordinator that is on the move.
        """
        deadline = time.monotonic() + _REQUEST_SECONDS
        while True:
            try:
                return self._read()
            except KafkaException as error:
                problem: KafkaError = error.args[0]
                if kafka_handling(problem.code()) is Handling.STOP or time.monotonic() >= deadline:
                    raise ServiceUnavailableError(
                        f"Kafka at {self._address} does not tell its offsets ({problem.str()}); check that it is up "
                        "and try again."
                    ) from error
            time.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Leave Kafka; closing twice is harmless."""
        for client in self._clients.values():
            client.close()
        self._clients = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, int]:
        committed = {group: self._committed(group) for group in self._clients}
        kept = {place: self._kept(place) for offsets in committed.values() for place in offsets}
        behind = {name: 0 for name, _ in sorted(kept)}
        for offsets in committed.values():
            for place, offset in offsets.items():
                first, end = kept[place]
                behind[place[0]] += max(0, end - max(offset, first))
        return behind

    def _committed(self, group: str) -> dict[_Place, int]:
        """Return the commits of the group; a negative number stands for none."""
        asked = [TopicPartition(*place) for place in self._places[group]]
        answers = self._clients[group].committed(asked, _REQUEST_SECONDS)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {(answer.topic, answer.partition): answer.offset for answer in answers}

    def _kept(self, place: _Place) -> tuple[int, int]:
        """Return the first offset of the partition and the one after its last."""
        client = next(iter(self._clients.values()))
        return client.get_watermark_offsets(TopicPartition(*place), _REQUEST_SECONDS)


def pipeline_lag(settings: ConsoleSettings) -> dict[str, int]:
    """Return topic -> records that the meters and the sinks are behind now; raises what LagReader raises."""
    with LagReader(settings) as reader:
        return reader.read()


def wait_until_settled(
    settings: ConsoleSettings,
    timeout_seconds: float,
    on_lag: Callable[[Mapping[str, int]], None] = lambda behind: None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when nothing was behind twice in a row, half a second apart; `on_lag` gets every look.

    Blocks; a broker that does not answer for a while is waited for. Raises ServiceUnavailableError that names the
    topics that are still behind at the timeout, and what LagReader raises.
    """
    deadline = clock() + timeout_seconds
    was_settled = False
    reader: LagReader | None = None
    with ExitStack() as connections:
        while True:
            try:
                reader = reader or connections.enter_context(LagReader(settings))
                behind = reader.read()
            except ServiceUnavailableError:
                # A coordinator that moves, a broker that restarts: both are over in seconds.
                if clock() >= deadline:
                    raise
                was_settled = False
                sleep(_LOOK_SECONDS)
                continue
            on_lag(behind)
            is_settled = not any(behind.values())
            if is_settled and was_settled:
                return
            if not is_settled and clock() >= deadline:
                raise ServiceUnavailableError(_late(behind, timeout_seconds))
            was_settled = is_settled
            sleep(_LOOK_SECONDS)


def _late(behind: Mapping[str, int], seconds: float) -> str:
    late = ", ".join(f"{topic} by {count} records" for topic, count in sorted(behind.items()) if count)
    return (
        f"After {seconds:g} s the pipeline is still behind: {late}; check that the meter and sink workers run "
        "(`tokentide doctor`) or wait longer."
    )
