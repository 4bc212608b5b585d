"""Budgets as people set them: read whole from the compacted topic, written with the next revision."""

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from pydantic import ValidationError

from tokentide.console.broker import QUIET, reach
from tokentide.schemas import Budget, KafkaSettings, ServiceUnavailableError, SettingsError

__all__ = ["BudgetBook", "delete_budget", "new_budget", "next_revision", "read_budgets", "write_budget"]

_DELIVERY_SECONDS = 15.0
_READ_SECONDS = 20.0
# On a tombstone: a budget that is made again goes on counting, or its alerts would repeat the ids of old ones.
_REVISION_HEADER = "tokentide-revision"
# What pydantic puts before the words that matter.
_DECORATION = re.compile(r"^(Value error, |(Decimal input|Input|String|Tuple) )")
# The client wants a group; `assign` without commits leaves no trace of it on the cluster.
_NO_GROUP = "tokentide-budgets-reader"


@dataclass
class BudgetBook:
    """All budgets of the topic by id, the highest revision that each id ever had, and what could not be read."""

    budgets: dict[str, Budget] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def apply(self, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes], where: str) -> None:
        """Take in the next record of the topic; one that is no budget becomes a problem."""
        budget_id = (key or b"").decode(errors="replace")
        if value is None:
            revision = headers.get(_REVISION_HEADER, b"")
            if revision.isdigit():
                self._saw(budget_id, int(revision))
            self.budgets.pop(budget_id, None)
            return
        try:
            budget = Budget.model_validate_json(value)
        except ValidationError as error:
            self.problems.append(f"{where} ({budget_id!r}) is no budget: {_words(error)}")
            return
        self.budgets[budget_id] = budget
        self._saw(budget_id, budget.revision)

    def _saw(self, budget_id: str, revision: int) -> None:
        self.revisions[budget_id] = max(revision, self.revisions.get(budget_id, 0))


def new_budget(**fields: Any) -> Budget:
    """Return the budget with these fields; raises SettingsError that says in one sentence what is wrong."""
    try:
        return Budget(**fields)
    except ValidationError as error:
        raise SettingsError(f"This is no budget: {_words(error)}.") from error


def next_revision(book: BudgetBook, wanted: Budget) -> Budget | None:
    """Return the budget with the revision under which it must be written, or None when the topic says the same."""
    current = book.budgets.get(wanted.budget_id)
    if current is not None and current == wanted.model_copy(update={"revision": current.revision}):
        return None
    return wanted.model_copy(update={"revision": book.revisions.get(wanted.budget_id, 0) + 1})


def read_budgets(kafka: KafkaSettings, topic: str) -> BudgetBook:
    """Return what the whole topic says now; joins no group and commits nothing.

    Raises ServiceUnavailableError when Kafka does not answer, SettingsError when the topic does not exist.
    """
    metadata = reach(kafka).metadata.topics.get(topic)
    if metadata is None:
        raise SettingsError(
            f"The topic {topic} does not exist on {kafka.broker}; create it with `tokentide topics init`."
        )
    consumer = Consumer(
        {
            **kafka.librdkafka(),
            **QUIET,
            "group.id": _NO_GROUP,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # A person waits: the defaults are made for streams, and cost half a second each.
            "fetch.wait.max.ms": 10,
            "fetch.error.backoff.ms": 10,
            "error_cb": lambda _error: None,
        }
    )
    book = BudgetBook()
    with closing(consumer):
        unread = set(metadata.partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in unread])
        while unread:
            message = consumer.poll(_READ_SECONDS)
            if message is None:
                raise ServiceUnavailableError(
                    f"Kafka at {kafka.broker} sent nothing of {topic} for {_READ_SECONDS:.0f} s; try again."
                )
            error = message.error()
            if error is None:
                _take(book, message)
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            else:
                raise ServiceUnavailableError(f"{topic} cannot be read: {error.str()}.")
    return book


def write_budget(kafka: KafkaSettings, topic: str, budget: Budget) -> None:
    """Return when the budget is stored by all in-sync replicas; raises ServiceUnavailableError when it is not."""
    _write(kafka, topic, budget.budget_id, budget.model_dump_json().encode(), budget.revision)


def delete_budget(kafka: KafkaSettings, topic: str, budget_id: str, revision: int) -> None:
    """Write the tombstone of a budget whose last revision was `revision`; blocks and raises like `write_budget`."""
    _write(kafka, topic, budget_id, None, revision)


def _write(kafka: KafkaSettings, topic: str, key: str, value: bytes | None, revision: int) -> None:
    problems: list[str] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            problems.append(error.str())

    producer = Producer(
        {
            **kafka.librdkafka(),
            **QUIET,
            "enable.idempotence": True,
            "message.timeout.ms": int(_DELIVERY_SECONDS * 1000) - 1000,
            "error_cb": lambda _error: None,
        }
    )
    try:
        producer.produce(
            topic,
            key=key.encode(),
            value=value,
            headers={_REVISION_HEADER: str(revision).encode()},
            on_delivery=delivered,
        )
        undelivered = producer.flush(_DELIVERY_SECONDS)
    except KafkaException as error:
        raise ServiceUnavailableError(f"{topic} cannot be written: {error.args[0].str()}.") from error
    if undelivered or problems:
        reason = problems[0] if problems else f"no answer within {_DELIVERY_SECONDS:.0f} s"
        raise ServiceUnavailableError(f"Kafka at {kafka.broker} did not store the record of {key}: {reason}.")


def _take(book: BudgetBook, message: Message) -> None:
    headers = {
        name: content for name, content in dict(message.headers() or {}).items() if isinstance(content, bytes)
    }
    key, value = message.key(), message.value()
    book.apply(
        key if isinstance(key, bytes) else None,
        value if isinstance(value, bytes) else None,
        headers,
        f"{message.topic()}[{message.partition()}]@{message.offset()}",
    )


def _words(error: ValidationError) -> str:
    """Say what pydantic found, as parts of one sentence."""
    problems = error.errors(include_url=False)
    places = [problem["loc"] for problem in problems]
    parts = []
    for problem in problems:
        place = problem["loc"]
        # Of a list with a wrong entry pydantic also says that it is too short without it.
        if any(other[: len(place)] == place and other != place for other in places):
            continue
        name = ".".join(map(str, place))
        said = _DECORATION.sub("", problem["msg"])
        parts.append(f"{name} {said}" if name else said)
    return "; ".join(parts)
