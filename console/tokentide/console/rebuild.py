"""Writing a changelog of the meter anew, from ClickHouse, when its topic was deleted or emptied.

The rules, for each partition whose changelog does not say how far it is, though the meter has committed:

1. The position is the lower of two commits, the meter's and the sink's. Below the sink's, ClickHouse holds all;
   below the meter's, all was published. Nothing beyond is taken for known.
2. `spend`: the fence is the last source offset that `usage.priced` covers below the position. Totals are made of the
   rows up to the fence.
3. `budgets`: totals of any age are true, for they are absolute. Alerts that were raised stay raised.
4. The group's commit goes back to the position, which Kafka refuses while the group has a member. Then the state is
   written, and last, once all of it is delivered, the record that says how far it is. A rebuild that is cut off
   leaves the state lost, as it was.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tokentide.console.broker import QUIET, reach
from tokentide.console.publish import Outgoing, publish
from tokentide.console.remembered import StateRecord, remembered_days, remembered_entities
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import Alert, ServiceUnavailableError, SettingsError, changelog_name
from tokentide.streams.coverage import coverage
from tokentide.streams.day import FENCE_KEY, Fence, fence_record
from tokentide.streams.log import Log
from tokentide.streams.progress import POSITION_KEY, Progress

__all__ = ["Rebuilt", "run_rebuild"]

_ANSWER_SECONDS = 20.0
_DELIVERY_SECONDS = 60.0
_LOOK_SECONDS = 0.5
_STEP = 1000


@dataclass(frozen=True)
class Rebuilt:
    """One partition of a changelog that was, or would be, written anew."""

    table: str
    partition: int
    records: int
    position: int
    """The offset of the stage's topic at which the meter goes on."""
    missing: int
    """How many of the records behind the position are gone from Kafka before ClickHouse had them."""


def run_rebuild(
    settings: ConsoleSettings,
    *,
    dry_run: bool = False,
    wait_seconds: float = 0.0,
    on_progress: Callable[[str, int], None] = lambda table, records: None,
) -> list[Rebuilt]:
    """Write every lost partition of both changelogs anew; `dry_run` only counts.

    Waits up to `wait_seconds` for the last meter to leave the group. Raises SettingsError when topics are missing,
    nothing is lost or a meter runs, ServiceUnavailableError and StorageRefusedError.
    """
    work = _Rebuild(settings, on_progress)
    lost = {table: work.lost(table) for table in ("spend", "budgets")}
    if not any(lost.values()):
        raise SettingsError(
            f"Nothing is lost: the changelogs of {settings.meter_id} hold the state of everything it has counted. To "
            "rebuild one all the same, stop the meters, delete its topic, and run `tokentide topics init` first."
        )
    if not dry_run:
        _await_leave(settings, wait_seconds)
    return [
        partition
        for table, positions in lost.items()
        if positions
        for partition in work.rebuild(table, positions, dry_run=dry_run)
    ]


class _Rebuild:
    """What both tables need: the log, names, and the count of partitions."""

    def __init__(self, settings: ConsoleSettings, on_progress: Callable[[str, int], None]) -> None:
        self._settings = settings
        self._on_progress = on_progress
        self._log = Log(settings.kafka)
        self._topics = {"spend": settings.topics.priced, "budgets": settings.topics.spend}
        self._changelogs = {table: changelog_name(settings.meter_id, table) for table in self._topics}
        names = [*self._topics.values(), *self._changelogs.values(), settings.topics.alerts]
        found = self._log.partitions(names)
        missing = sorted(name for name, count in found.items() if not count)
        if missing:
            raise SettingsError(
                f"{settings.kafka.broker} lacks the topics {', '.join(missing)}; create them with "
                "`tokentide topics init`."
            )
        if len(set(found.values())) > 1:
            raise SettingsError(
                "The topics have different numbers of partitions: "
                f"{', '.join(f'{name} has {count}' for name, count in sorted(found.items()))}; delete the changelog "
                "that was made wrong and run `tokentide topics init` with the right number."
            )
        self._partitions = found[settings.topics.spend]

    def lost(self, table: str) -> dict[int, int]:
        """Return the lost partitions, each with the position at which the meter must go on."""
        topic = self._topics[table]
        end_key = FENCE_KEY if table == "spend" else POSITION_KEY
        positions = {}
        for partition in range(self._partitions):
            counted = self._log.committed(self._settings.meter_id, topic, partition)
            changelog = self._log.read(self._changelogs[table], partition, 0)
            if counted and not any(record.key == end_key for record in changelog):
                stored = self._log.committed(self._settings.sink_id, topic, partition)
                positions[partition] = min(counted, stored or 0)
        return positions

    def rebuild(self, table: str, positions: Mapping[int, int], *, dry_run: bool) -> Iterator[Rebuilt]:
        """Write the partitions of one table, state first and ends last; yield what each got."""
        if table == "spend":
            fences = {
                partition: self._fence(partition, position) for partition, position in positions.items()
            }
            records = remembered_days(self._settings.clickhouse, fences)
            ends = [
                StateRecord(partition, *fence_record(Fence(fences[partition], position)))
                for partition, position in positions.items()
            ]
        else:
            alerts = self._newer_alerts(positions)
            records = remembered_entities(self._settings.clickhouse, positions, self._partitions, alerts)
            # Watermarks come again within a second of reading; until then nothing is closed.
            ends = [
                StateRecord(partition, POSITION_KEY, Progress(self._partitions, position).record())
                for partition, position in positions.items()
            ]
        counts = dict.fromkeys(positions, 0)
        counted = self._counted(table, records, counts)
        if dry_run:
            for _ in counted:
                pass
        else:
            _go_back(self._settings, self._topics[table], positions)
            self._write(table, counted)
            self._write(table, ends)
        for partition, position in positions.items():
            first = self._log.first_offset(self._topics[table], partition, position)
            missing = max(0, first - position) if first is not None else 0
            yield Rebuilt(table, partition, counts[partition], position, missing)

    def _write(self, table: str, records: Iterable[StateRecord]) -> None:
        publish(
            self._settings.kafka,
            self._changelogs[table],
            (Outgoing(key, value, partition) for partition, key, value in records),
            "the state is still lost: run `tokentide rebuild` again",
            seconds=_DELIVERY_SECONDS,
        )

    def _fence(self, partition: int, position: int) -> int:
        """Return the last source offset that `usage.priced` covers without a gap below the position; -1 for none.

        Where retention has removed all of that, the next record begins behind the fence; and where there is none,
        `pricing` goes on where the group has committed.
        """
        topic = self._settings.topics.priced
        fence: int | None = None
        for record in self._log.read(topic, partition, 0):
            first, last = coverage(record, f"{topic}[{partition}]")
            if record.offset >= position:
                return first - 1 if fence is None else fence
            if fence is None:
                fence = last
            elif first <= fence + 1:
                fence = max(fence, last)
        if fence is None:
            events = self._log.committed(self._settings.meter_id, self._settings.topics.events, partition)
            fence = (events or 0) - 1
        return fence

    def _newer_alerts(self, positions: Mapping[int, int]) -> Iterator[Alert]:
        """Yield the alerts that the sink has not acknowledged yet."""
        topic = self._settings.topics.alerts
        for partition in positions:
            start = self._log.committed(self._settings.sink_id, topic, partition) or 0
            for record in self._log.read(topic, partition, start):
                if record.value is not None:
                    yield Alert.model_validate_json(record.value)

    def _counted(
        self, table: str, records: Iterable[StateRecord], counts: dict[int, int]
    ) -> Iterator[StateRecord]:
        for number, record in enumerate(records, 1):
            counts[record.partition] += 1
            if number % _STEP == 0:
                self._on_progress(table, number)
            yield record


def _await_leave(settings: ConsoleSettings, seconds: float) -> None:
    """Return when the meter's group has no member."""
    admin = reach(settings.kafka).admin
    deadline = time.monotonic() + seconds
    while True:
        answer = admin.describe_consumer_groups([settings.meter_id], request_timeout=_ANSWER_SECONDS)
        try:
            members = answer[settings.meter_id].result(_ANSWER_SECONDS).members
        except KafkaException as error:
            raise ServiceUnavailableError(
                f"Kafka at {settings.kafka.broker} does not tell who is in {settings.meter_id} "
                f"({error.args[0].str()}); check that it is up and try again."
            ) from error
        if not members:
            return
        if time.monotonic() >= deadline:
            raise _still_running(settings, sorted(str(m.group_instance_id or m.client_id) for m in members))
        time.sleep(_LOOK_SECONDS)


def _go_back(settings: ConsoleSettings, topic: str, positions: Mapping[int, int]) -> None:
    """Commit the positions for the meter's group."""
    places = [TopicPartition(topic, partition, position) for partition, position in positions.items()]
    consumer = Consumer({**settings.kafka.librdkafka(), **QUIET, "group.id": settings.meter_id})
    with closing(consumer):
        try:
            answers = consumer.commit(offsets=places, asynchronous=False) or []
        except KafkaException as error:
            raise _still_running(settings, [error.args[0].str()]) from error
    for answer in answers:
        if answer.error is not None:
            raise _still_running(settings, [answer.error.str()])


def _still_running(settings: ConsoleSettings, names: list[str]) -> SettingsError:
    return SettingsError(
        f"The group {settings.meter_id} has members ({', '.join(names)}): stop all its meters; one that was stopped "
        "leaves after TOKENTIDE_SESSION_TIMEOUT_SECONDS, for which --wait waits."
    )
