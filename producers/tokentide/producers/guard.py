"""The guard: may this user still spend, asked before a model is called and answered from memory."""

import threading
import time
from collections.abc import Callable, Collection, Container
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException

from tokentide.producers.complaints import Complaints, LibrdkafkaLog, reason_of
from tokentide.producers.decision import BudgetExceeded, Cause, Decision, GuardRefused, UserBlocked
from tokentide.producers.guard_settings import GuardSettings
from tokentide.producers.judge import Judge
from tokentide.producers.limits_reader import LimitsReader
from tokentide.producers.limits_view import LimitsView
from tokentide.producers.memory import MEMORY
from tokentide.producers.process import abandon, close_at_worker_exit, register
from tokentide.schemas import SettingsError

__all__ = ["Guard"]

_CLOSE_SECONDS = 2.0
_REFUSALS: dict[Cause, type[GuardRefused]] = {"budget": BudgetExceeded, "blocked": UserBlocked}


class Guard:
    """Answers from a view of the topic `usage.limits` that a thread keeps fresh; one for a process is enough.

    Without `settings` the environment is read. Raises SettingsError for wrong settings; an unreachable broker
    is no error: calls are then allowed or refused by `when_stale`. `fail_open` and `fail_closed` name
    budgets for which the other policy holds. A budget that is known to be used up refuses until its period
    ends, also when the view is stale, for use only grows. `blocked` holds users that are refused whatever is
    left: a set that the service keeps, or anything with `in`. Any thread may use it, and a child after a fork,
    which goes on with what its parent knew and reads by itself from its first check. With the broker `memory://`
    nothing is read, and there are no limits.
    """

    _reader: LimitsReader | None

    def __init__(
        self,
        settings: GuardSettings | None = None,
        *,
        broker: str | None = None,
        topic: str | None = None,
        fail_open: Collection[str] = (),
        fail_closed: Collection[str] = (),
        blocked: Container[str] = frozenset(),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        settings = settings or GuardSettings.from_env()
        if broker is not None:
            settings = replace(settings, kafka=replace(settings.kafka, broker=broker))
        if topic is not None:
            settings = replace(settings, topic=topic)
        if settings.kafka.broker != MEMORY:
            try:
                Consumer({**settings.librdkafka(), "logger": LibrdkafkaLog()}).close()
            except (KafkaException, TypeError, ValueError) as error:
                raise SettingsError(f"librdkafka refuses the settings: {reason_of(error)}") from error
        self._settings = settings
        self._closed = False
        self._forget()
        self._judge = Judge(
            settings,
            LimitsView(self._complaints),
            exceptions=fail_open if settings.when_stale == "closed" else fail_closed,
            blocked=blocked,
            clock=clock,
            monotonic=monotonic,
        )
        self._revive()
        register(self)

    def check(
        self,
        user_id: object = None,
        team_id: object = None,
        *,
        org_id: object = None,
        provider: str | None = None,
        model: str | None = None,
        operation: str | None = None,
        estimated_tokens: int | None = None,
    ) -> Decision:
        """Say whether the call may be made, in microseconds; never raises and never waits for Kafka.

        `estimated_tokens`, input and output together, are held against `max_tokens_per_request` and what budgets
        in tokens have left. `model` matters to budgets of a model when its provider is given, too.
        """
        try:
            if self._reader is None:
                self._revive()
            return self._judge.decide(user_id, team_id, org_id, provider, model, operation, estimated_tokens)
        except Exception as error:  # whatever a service passes
            self._complaints.warn("check", f"limits could not be checked: {type(error).__name__}: {error}")
            return self._judge.undecided("limits could not be checked")

    def require(self, user_id: object = None, team_id: object = None, **call: Any) -> Decision:
        """Return the decision of `check`, if the call is allowed.

        Raises BudgetExceeded, UserBlocked, or for a request that is too large and for limits that are not known
        their base GuardRefused.
        """
        decision = self.check(user_id, team_id, **call)
        if not decision.allowed:
            with self._lock:
                self._refused += 1
            raise _REFUSALS.get(decision.cause, GuardRefused)(decision)
        return decision

    def ready(self, timeout: float) -> bool:
        """Wait until the limits were read once, at most `timeout` seconds; return whether they are known now."""
        self._revive()
        return self._was_fresh.wait(timeout)

    @property
    def refused(self) -> int:
        """How many calls `require` has refused in this process."""
        return self._refused

    @property
    def entities(self) -> int:
        """How many users, teams, ... the view knows limits of, with those that have none left."""
        return len(self._judge.view)

    def close(self) -> None:
        """Stop reading; what is known then goes stale. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop(_CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """Forget the thread, which stayed in the parent; called by the interpreter."""
        if self._reader is not None and self._reader.consumer is not None:
            abandon(self._reader.consumer)
        self._forget()

    def close_at_exit(self) -> None:
        """Close; called by the interpreter at the end of the process."""
        self.close()

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._complaints = Complaints()
        self._reader = None
        self._was_fresh = threading.Event()
        self._refused = 0

    def _revive(self) -> None:
        with self._complaints, self._lock:
            if self._closed or self._reader is not None:
                return
            if self._settings.kafka.broker == MEMORY:
                self._show(LimitsView(self._complaints), datetime.now(UTC))
                return
            # The first view grows under the eyes of the calls; a later one is shown when it is whole.
            known = self._judge
            view = known.view if known.as_of is None else LimitsView(self._complaints)
            reader = LimitsReader(self._settings, view, self._show, self._complaints)
            try:
                reader.thread.start()
            except RuntimeError as error:
                self._complaints.later(
                    "thread", f"limits are not read, for no thread can be started: {error}"
                )
                return
            self._reader = reader
            close_at_worker_exit()

    def _show(self, view: LimitsView, as_of: datetime) -> None:
        self._judge.show(view, as_of)
        self._was_fresh.set()
