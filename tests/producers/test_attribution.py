"""Who a call is attributed to: through nesting, tasks, threads, generators, and whatever values services have."""

import asyncio
import sys
import threading
import uuid
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

import pytest

from tokentide.producers.attribution import (
    ATTRIBUTABLE,
    AttributedThreadPoolExecutor,
    attributed,
    attribution,
    count_unattributed,
    current_attribution,
    unattributed_calls,
)
from tokentide.producers.complaints import Complaints
from tokentide.schemas import UsageEvent


def test_outside_nothing_is_attributed() -> None:
    assert current_attribution() == {}


def test_the_inner_attribution_wins_and_tags_merge() -> None:
    with attribution(user_id="ada", team_id="maths", tags={"env": "prod", "feature": "a"}):
        with attribution(user_id="bob", operation="summary", tags={"feature": "b"}):
            inner = current_attribution()
        outer = current_attribution()

    assert inner == {
        "user_id": "bob",
        "team_id": "maths",
        "operation": "summary",
        "tags": {"env": "prod", "feature": "b"},
    }
    assert outer == {"user_id": "ada", "team_id": "maths", "tags": {"env": "prod", "feature": "a"}}
    assert current_attribution() == {}


def test_none_says_nothing_and_an_empty_string_takes_back() -> None:
    with attribution(user_id="ada", team_id="maths"), attribution(user_id=None, team_id=""):
        assert current_attribution() == {"user_id": "ada"}


def test_an_exception_ends_the_attribution() -> None:
    with pytest.raises(LookupError), attribution(user_id="ada"):
        raise LookupError

    assert current_attribution() == {}


def test_what_the_caller_does_with_the_answer_changes_nothing() -> None:
    with attribution(tags={"a": "1"}):
        current_attribution()["tags"]["a"] = "2"

        assert current_attribution() == {"tags": {"a": "1"}}


@pytest.mark.parametrize("name", sorted(ATTRIBUTABLE))
def test_every_attributable_field_is_one_of_an_event(name: str) -> None:
    fields: dict[str, Any] = {name: "x"}
    with attribution(**fields):
        event = UsageEvent(timestamp=datetime.now(UTC), provider="p", model="m", **current_attribution())

    assert getattr(event, name) == "x"


def test_an_event_can_hold_whatever_is_attributed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By its name in sys.modules: the package offers the function under the module's name.
    monkeypatch.setattr(sys.modules[attribution.__module__], "_complaints", Complaints())

    class Unwritable:
        def __str__(self) -> str:
            raise RuntimeError

    user = uuid.uuid4()
    wild: dict[str, Any] = {"colour": "red", "operation": "a\nb", "team_id": 7, "org_id": Unwritable()}
    with attribution(
        user_id=user,
        session_id="s" * 300,
        tags={f"t{n}" * 40: "v" * 300 for n in range(40)} | {"": 1},
        **wild,
    ):
        event = UsageEvent(timestamp=datetime.now(UTC), provider="p", model="m", **current_attribution())

    assert (event.user_id, event.team_id, event.operation) == (str(user), "7", "a b")
    assert event.org_id is None
    assert event.session_id == "s" * 256
    assert len(event.tags) == 32
    assert "attribution() knows no field 'colour': it was left out" in caplog.messages


def test_wrong_tags_are_left_out_and_raise_nothing() -> None:
    wrong: Any = "no mapping"

    with attribution(user_id="ada", tags=wrong):
        assert current_attribution() == {"user_id": "ada"}


def test_tasks_inherit_it_and_cannot_change_their_parents() -> None:
    async def child(user: str) -> dict[str, Any]:
        async with attribution(user_id=user):
            await asyncio.sleep(0)
            return current_attribution()

    async def parent() -> list[dict[str, Any]]:
        async with attribution(team_id="maths"):
            found = await asyncio.gather(*(child(f"u{number}") for number in range(3)))
            return [*found, current_attribution(), await asyncio.to_thread(current_attribution)]

    team = {"team_id": "maths"}
    assert asyncio.run(parent()) == [*(team | {"user_id": f"u{n}"} for n in range(3)), team, team]


def test_one_attribution_serves_many_tasks_at_once() -> None:
    shared = attribution(user_id="ada")

    async def task() -> dict[str, Any]:
        with shared:
            await asyncio.sleep(0)
            with shared:
                await asyncio.sleep(0)
            return current_attribution()

    async def main() -> list[dict[str, Any]]:
        return list(await asyncio.gather(task(), task(), task()))

    assert asyncio.run(main()) == [{"user_id": "ada"}] * 3


def test_a_generator_that_ends_late_takes_nothing_from_others() -> None:
    def stream() -> Generator[int, None, None]:
        with attribution(user_id="ada"):
            yield 1

    generator = stream()
    next(generator)
    with attribution(user_id="bob"):
        generator.close()

        assert current_attribution() == {"user_id": "bob"}
    assert current_attribution() == {}


def test_threads_have_it_only_when_told() -> None:
    found: list[dict[str, Any]] = []

    def work() -> None:
        found.append(current_attribution())

    with attribution(user_id="ada"):
        threads = [threading.Thread(target=work), threading.Thread(target=attributed(work))]
    for thread in threads:
        thread.start()
        thread.join()

    assert found == [{}, {"user_id": "ada"}]


def test_a_thread_pool_works_for_those_who_submit() -> None:
    async def in_executor(pool: AttributedThreadPoolExecutor) -> dict[str, Any]:
        with attribution(user_id="cleo"):
            return await asyncio.get_running_loop().run_in_executor(pool, current_attribution)

    with AttributedThreadPoolExecutor(max_workers=1) as pool:
        with attribution(user_id="ada"):
            first = pool.submit(current_attribution)
        with attribution(user_id="bob"):
            second = pool.map(lambda _: current_attribution(), [1, 2])
        third = asyncio.run(in_executor(pool))
        nobody = pool.submit(current_attribution)

        assert first.result() == {"user_id": "ada"}
        assert list(second) == [{"user_id": "bob"}] * 2
        assert third == {"user_id": "cleo"}
        assert nobody.result() == {}


def test_calls_of_nobody_are_counted() -> None:
    before = unattributed_calls()

    for fields in (
        {"user_id": "ada"},
        {"team_id": "maths"},
        {"org_id": "o"},
        {},
        {"operation": "x"},
        {"user_id": ""},
    ):
        count_unattributed(fields)

    assert unattributed_calls() - before == 3
