"""Compaction keeps the last record of a key, which may be a zombie's older one: the owner writes its own again."""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rows import rows_of

from tokentide.streams.budget_index import BudgetIndex
from tokentide.streams.budgets import BudgetChanges, BudgetState
from tokentide.streams.clock import EventClock
from tokentide.streams.spend import SpendChanges, SpendState

NOW = datetime(2026, 11, 30, 23, tzinfo=UTC)
START = int(NOW.timestamp())
HOURS = (START, START - 24 * 3600, START - 40 * 3600)
"""Of two days and the one before, all of them open."""
USERS = ("ann", "bob", "cid")
Log = list[tuple[bytes, bytes | None]]


class State(Protocol):
    """What a stage remembers of a partition."""

    def load(self, key: bytes, value: bytes | None) -> None: ...
    def loaded(self) -> None: ...
    def rewrites(self, count: int) -> list[tuple[bytes, bytes]]: ...


class Owner:
    """A partition in the hands of one meter after another."""

    def __init__(self, new: Callable[[], State], apply: Callable[[State, int, str, int], None]) -> None:
        self._new = new
        self._apply = apply
        self.log: Log = []
        self.offset = 0
        self.state = self.recovered()

    def recovered(self) -> State:
        state = self._new()
        for key, value in self.log:
            state.load(key, value)
        state.loaded()
        return state

    def count(self, user: str, hour: int) -> None:
        """An event of the user's."""
        self._apply(self.state, self.offset, user, hour)
        self.offset += 1

    def flush(self, rewritten: int) -> None:
        """As the stage does: some once more, then what changed."""
        self.log += self.state.rewrites(rewritten)
        if isinstance(self.state, SpendState):
            changes: SpendChanges | BudgetChanges | None = self.state.take_changes()
        else:
            assert isinstance(self.state, BudgetState)
            changes = self.state.take_changes(NOW)
        self.log += [] if changes is None else changes.changelog

    def compact(self) -> None:
        """Keep the last record of each key; of deletions not even that."""
        self.log = [record for record in dict(self.log).items() if record[1] is not None]

    def remembered(self) -> dict[bytes, object]:
        """What a new owner would know."""
        state = self.recovered()
        assert isinstance(state, SpendState | BudgetState)
        position = state.priced if isinstance(state, SpendState) else state.position
        records = dict(state.rewrites(10**6) + state.rewrites(10**6))
        return {b"position": position} | {key: json.loads(value) for key, value in records.items()}


def spend() -> Owner:
    def apply(state: State, offset: int, user: str, hour: int) -> None:
        assert isinstance(state, SpendState)
        state.apply(rows_of([(offset, hour, user, None, 1, 1)]), offset, offset + 1, EventClock())

    return Owner(lambda: SpendState(0), apply)


def budgets() -> Owner:
    def apply(state: State, offset: int, user: str, hour: int) -> None:
        assert isinstance(state, BudgetState)
        number = {"requests": 1, "input_tokens": 1, "output_tokens": 0, "unpriced_requests": 0}
        total = {
            "period": "day",
            "period_start": hour - hour % 86_400,
            "cost_pico_usd": str(offset),
            **number,
        }
        of = {"scope": "user", "scope_id": user, "source_partition": 0, "version": offset}
        state.apply(json.dumps({**of, "totals": [total]}).encode(), offset)

    return Owner(lambda: BudgetState(BudgetIndex(), 1), apply)


both = pytest.mark.parametrize("make", [spend, budgets])


@both
@settings(max_examples=80, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from(USERS), st.sampled_from(HOURS)), min_size=1), seed=st.integers()
)
def test_what_a_zombie_wrote_over_is_written_again_by_the_next_owner(
    make: Callable[[], Owner], events: list[tuple[str, int]], seed: int
) -> None:
    chance, owner = random.Random(seed), make()
    for user, hour in events:
        owner.count(user, hour)
        if chance.random() < 0.5:
            owner.flush(0)
    owner.flush(0)
    known = owner.remembered()
    owner.log += chance.choices(owner.log, k=chance.randrange(8))

    owner.state = owner.recovered()
    owner.flush(0)
    owner.compact()

    assert owner.remembered() == known


@both
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), rewritten=st.integers(1, 4))
def test_what_a_zombie_wrote_over_is_written_again_in_the_next_round(
    make: Callable[[], Owner], seed: int, rewritten: int
) -> None:
    """Also what is old of an entity that is never at rest."""
    chance, owner = random.Random(seed), make()
    for _ in range(20):
        owner.count(chance.choice(USERS), chance.choice(HOURS))
        owner.flush(0)
    owner.log += chance.choices(owner.log, k=30)

    for _ in range(100):
        owner.count("ann", START)
        owner.flush(rewritten)
    known = owner.remembered()
    owner.compact()

    assert owner.remembered() == known


@both
def test_the_place_in_the_log_is_written_again_though_nothing_happens(make: Callable[[], Owner]) -> None:
    owner = make()
    owner.count("ann", START)
    owner.flush(0)
    owner.count("ann", START)
    owner.flush(0)
    first, *_ = [record for record in owner.log if record[0].startswith(b"#")]
    known = owner.remembered()
    owner.log.append(first)  # of the zombie

    for _ in range(20):
        owner.flush(1)
    owner.compact()

    assert owner.remembered() == known


def test_what_a_zombie_deletes_of_an_entity_that_came_back_is_written_again() -> None:
    owner = budgets()
    owner.count("ann", START)
    owner.flush(0)
    known = owner.remembered()
    owner.log.append((b"user:ann", None))

    owner.state = owner.recovered()
    owner.flush(0)
    owner.compact()

    assert owner.remembered() == known
