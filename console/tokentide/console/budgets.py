"""Budgets as people set them: read whole from the compacted topic, written with the next revision."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message
from pydantic import ValidationError

from tokentide.console.control import problem_words, read_control
from tokentide.console.publish import Outgoing, publish
from tokentide.schemas import Budget, KafkaSettings, SettingsError

__all__ = ["BudgetBook", "delete_budget", "new_budget", "next_revision", "read_budgets", "write_budget"]

# On a tombstone: a budget that is made again goes on counting, or its alerts would repeat the ids of old ones.
_REVISION_HEADER = "tokentide-revision"


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
            self.problems.append(f"{where} ({budget_id!r}) is no budget: {problem_words(error)}")
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
        raise SettingsError(f"This is no budget: {problem_words(error)}.") from error


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
    book = BudgetBook()
    for message in read_control(kafka, topic):
        _take(book, message)
    return book


def write_budget(kafka: KafkaSettings, topic: str, budget: Budget) -> None:
    """Return when the budget is stored by all in-sync replicas; raises ServiceUnavailableError when it is not."""
    _write(kafka, topic, budget.budget_id, budget.model_dump_json().encode(), budget.revision)


def delete_budget(kafka: KafkaSettings, topic: str, budget_id: str, revision: int) -> None:
    """Write the tombstone of a budget whose last revision was `revision`; blocks and raises like `write_budget`."""
    _write(kafka, topic, budget_id, None, revision)


def _write(kafka: KafkaSettings, topic: str, key: str, value: bytes | None, revision: int) -> None:
    record = Outgoing(key.encode(), value, headers=((_REVISION_HEADER, str(revision).encode()),))
    publish(kafka, topic, [record], "try again")


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
