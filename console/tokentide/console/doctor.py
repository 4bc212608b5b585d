"""What an operator would check first, as findings with advice; changes nothing and produces nothing."""

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from clickhouse_connect.driver import Client
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec

from tokentide.console.broker import Broker, reach
from tokentide.console.settings import ConsoleSettings
from tokentide.console.topics import TopicState, compare_topics
from tokentide.schemas import TokentideError
from tokentide.sinks import ClickHouseSettings
from tokentide.sinks.clients import connect, translated
from tokentide.sinks.migration import MIGRATIONS

__all__ = ["Finding", "examine", "is_in_range"]

_LEAST_CLICKHOUSE = 25
_SLOW_MS = 500.0
_SKEW_SECONDS = 5.0
_LEAST_FREE_BYTES = 2 * 10**9
_REQUEST_SECONDS = 10.0
_PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka", "clickhouse-connect")


@dataclass(frozen=True)
class Finding:
    """The result of one check: what was seen, and what to do about it when it is a problem."""

    check: str
    seen: str
    advice: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether somebody has to do something."""
        return bool(self.advice)


def examine(settings: ConsoleSettings, data_dir: Path) -> Iterator[Finding]:
    """Yield one finding after the other, as they are made; what cannot be reached is a finding, not an error."""
    yield from _packages()
    yield _disk(data_dir)
    try:
        broker = reach(settings.kafka)
    except TokentideError as error:
        yield _unreachable("kafka", error)
    else:
        yield from _kafka(settings, broker)
    try:
        # Not the settings' database: that it is missing shall be one finding of several.
        client = connect(settings.clickhouse, database="default")
    except TokentideError as error:
        yield _unreachable("clickhouse", error)
    else:
        yield from _clickhouse(settings.clickhouse, client)


def is_in_range(installed: str, requirement: str) -> bool:
    """Return whether a version fulfils a requirement like `faust-streaming<0.16,>=0.15.3`."""
    have = _numbers(installed)
    for sign, bound in re.findall(r"(>=|<)\s*([0-9.]+)", requirement):
        wanted = _numbers(bound)
        if (have >= wanted) != (sign == ">="):
            return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[0-9.]*", text)[0].strip(".").split(".") if part)  # type: ignore[index]


def _unreachable(check: str, error: TokentideError) -> Finding:
    """Our errors say what happened and then, after a colon or a semicolon, what to do."""
    text = str(error)
    end = max(text.rfind("; "), text.rfind(": "))
    return Finding(check, text[:end], text[end + 2 :].removesuffix("."))


def _packages() -> Iterator[Finding]:
    wanted = {
        match[0]: text
        for text in requires("tokentide") or []
        if (match := re.match(r"[A-Za-z0-9_.-]+", text)) is not None
    }
    for name in _PACKAGES:
        requirement = wanted.get(name, name).partition(";")[0].strip()
        try:
            installed = version(name)
        except PackageNotFoundError:
            yield Finding(name, "not installed", "pip install 'tokentide[pipeline]'")
            continue
        advice = "" if is_in_range(installed, requirement) else f"pip install '{requirement}'"
        yield Finding(name, f"{installed} (supported: {requirement.removeprefix(name)})", advice)


def _disk(data_dir: Path) -> Finding:
    place = data_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    advice = "" if free >= _LEAST_FREE_BYTES else f"free some space, or use another --data than {data_dir}"
    return Finding("disk", f"{free / 10**9:.1f} GB free for {data_dir}", advice)


def _kafka(settings: ConsoleSettings, broker: Broker) -> Iterator[Finding]:
    nodes = len(broker.metadata.brokers)
    slow = "" if broker.latency_ms < _SLOW_MS else "run the workers closer to Kafka, or look at its load"
    yield Finding(
        "kafka", f"{settings.kafka.broker}: {nodes} node(s), answers in {broker.latency_ms:.1f} ms", slow
    )
    try:
        single = {
            settings.topics.budgets: "TOKENTIDE_TOPIC_BUDGETS",
            settings.topics.prices: "TOKENTIDE_TOPIC_PRICES",
            settings.credits_topic: "TOKENTIDE_TOPIC_CREDITS",
        }
        for state in compare_topics(broker, settings.topic_plans()):
            yield _topic(state, single)
        yield from _newest_event(settings, broker)
    except (TokentideError, KafkaException) as error:
        yield Finding("topics", str(error), "give this user the right to describe topics and their settings")


def _topic(state: TopicState, single: Mapping[str, str]) -> Finding:
    """Return how a topic stands; `single` are those of one partition, with the variables that name them."""
    check = f"topic {state.plan.name}"
    if state.is_missing:
        return Finding(check, "missing", "run `tokentide topics init`")
    partitions = f"{state.partitions} partition(s)"
    if state.has_other_partitions:
        return Finding(
            check,
            f"{partitions}, but {state.plan.partitions} are wanted",
            f"set {single[state.plan.name]} to a new name"
            if state.plan.name in single
            else f"set TOKENTIDE_PARTITIONS={state.partitions}, or use new topic names",
        )
    if state.config:
        differing = ", ".join(
            f"{name}={actual} instead of {wanted}" for name, (actual, wanted) in state.config.items()
        )
        return Finding(check, f"{partitions}, {differing}", "run `tokentide topics init`")
    return Finding(check, partitions)


def _newest_event(settings: ConsoleSettings, broker: Broker) -> Iterator[Finding]:
    """Kafka does not tell its time; the newest record's shows at least whether a producer's clock runs ahead."""
    topic = broker.metadata.topics.get(settings.topics.events)
    if topic is None:
        return
    newest_of_all = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]  # its stub says nothing
    asked = {TopicPartition(settings.topics.events, number): newest_of_all for number in topic.partitions}
    answers = broker.admin.list_offsets(asked, request_timeout=_REQUEST_SECONDS)
    newest = max(answer.result(_REQUEST_SECONDS).timestamp for answer in answers.values()) / 1000
    if newest < 0:
        yield Finding("clock of producers", "no events yet, so nothing to compare")
        return
    age = time.time() - newest
    advice = (
        "" if age > -_SKEW_SECONDS else "synchronise the clocks (NTP) of the services and of this machine"
    )
    yield Finding("clock of producers", f"the newest event was sent {age:.1f} s ago by our clock", advice)


def _clickhouse(settings: ClickHouseSettings, client: Client) -> Iterator[Finding]:
    try:
        with translated(settings, "answer"):
            yield from _server(settings, client)
            yield _migrations(settings, client)
    except TokentideError as error:
        yield _unreachable("clickhouse", error)


def _server(settings: ClickHouseSettings, client: Client) -> Iterator[Finding]:
    asked = time.time()
    row = client.query("SELECT version(), now64(3, 'UTC')").result_rows[0]
    answered = time.time()
    is_new = _numbers(str(row[0])) >= (_LEAST_CLICKHOUSE,)
    yield Finding(
        "clickhouse",
        f"{settings.url}: version {row[0]}, user {settings.user}, answers in {1000 * (answered - asked):.1f} ms",
        "" if is_new else f"upgrade ClickHouse to {_LEAST_CLICKHOUSE} or newer",
    )
    moment: datetime = row[1]
    # It was read at some time between the two looks at our clock.
    ahead = moment.timestamp() - (asked + answered) / 2
    is_right = abs(ahead) <= _SKEW_SECONDS + (answered - asked) / 2
    yield Finding(
        "clock of clickhouse",
        f"{ahead:+.2f} s from ours, give or take {(answered - asked) / 2:.2f} s",
        "" if is_right else "synchronise the clocks (NTP) of ClickHouse's machine and of this one",
    )
    if not settings.password and "127.0.0.1" not in settings.url and "localhost" not in settings.url:
        yield Finding(
            "password of clickhouse",
            f"user {settings.user} needs none, over the network",
            "give the user a password and set TOKENTIDE_CLICKHOUSE_PASSWORD",
        )


def _migrations(settings: ClickHouseSettings, client: Client) -> Finding:
    wanted = {int(path.name.partition("_")[0]) for path in MIGRATIONS.glob("*.sql")}
    noted = client.query(
        "SELECT count() FROM system.tables WHERE database = {database:String} AND name = 'schema_versions'",
        parameters={"database": settings.database},
    ).result_rows[0][0]
    applied: set[int] = set()
    if noted:
        rows = client.query(
            "SELECT DISTINCT version FROM {database:Identifier}.schema_versions",
            parameters={"database": settings.database},
        ).result_rows
        applied = {int(row[0]) for row in rows}
    check = f"tables in {settings.database}"
    if missing := sorted(wanted - applied):
        return Finding(
            check, f"{len(missing)} of {len(wanted)} migrations are missing", "run `tokentide migrate`"
        )
    if unknown := sorted(applied - wanted):
        return Finding(
            check, f"migrated by a newer tokentide (up to {unknown[-1]})", "upgrade tokentide on this machine"
        )
    return Finding(check, f"all {len(wanted)} migrations are applied")
