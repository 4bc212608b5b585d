"""Publishing a trace through the producer SDK, without losing a row."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tokentide.console.trace.pacer import Pacer
from tokentide.producers import UsageProducer
from tokentide.schemas import DataLossError, ServiceUnavailableError, UsageEvent

__all__ = ["ReplayResult", "replay"]

MAX_WAITING = 20_000
_EVENTS_BETWEEN_LOOKS = 500
_PATIENCE_SECONDS = 60.0
_PROGRESS_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What was published, all of it stored by Kafka; tokens and seconds are those of this replay."""

    events: int
    input_tokens: int
    output_tokens: int
    seconds: float

    @property
    def events_per_second(self) -> float:
        """How fast it went, with the wait for the last delivery."""
        return self.events / self.seconds if self.seconds else 0.0


def replay(
    events: Iterable[UsageEvent],
    producer: UsageProducer,
    pacer: Pacer,
    on_progress: Callable[[int], None] = lambda events: None,
    *,
    max_waiting: int = MAX_WAITING,
    patience_seconds: float = _PATIENCE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> ReplayResult:
    """Publish the events at the pacer's rate and wait until Kafka has stored every one.

    Blocks. `track()` never blocks and drops what finds no room, so at most `max_waiting` events (below the
    producer's `queue_events`) wait for delivery at any time. `on_progress` gets the number of events
    published so far, a few times a second and at the end. Nothing else may use the producer meanwhile.

    Raises ServiceUnavailableError when Kafka stores nothing for `patience_seconds`, and DataLossError when
    an event was invalid, dropped or given up.
    """
    started = clock()
    before = producer.counters
    published = input_tokens = output_tokens = 0
    step = max(1, min(_EVENTS_BETWEEN_LOOKS, max_waiting // 2))
    next_progress = started
    for event in events:
        pacer.wait(event.timestamp)
        producer.track(event)
        published += 1
        input_tokens += event.input_tokens
        output_tokens += event.output_tokens
        if published % step == 0:
            _wait(producer, max_waiting - step, patience_seconds, clock)
        now = clock()
        if now >= next_progress:
            on_progress(published)
            next_progress = now + _PROGRESS_SECONDS
    _wait(producer, 0, patience_seconds, clock)
    after = producer.counters
    delivered = after.delivered - before.delivered
    if delivered != published:
        raise DataLossError(
            f"of {published} events only {delivered} were stored: {after.invalid - before.invalid} invalid, "
            f"{after.dropped - before.dropped} dropped, {after.failed - before.failed} given up; replay the "
            "trace again, what is stored already counts once"
        )
    on_progress(published)
    return ReplayResult(published, input_tokens, output_tokens, clock() - started)


def _wait(producer: UsageProducer, most: int, patience_seconds: float, clock: Callable[[], float]) -> None:
    """Wait until at most `most` events are undelivered."""
    fewest = producer.counters.waiting
    deadline = clock() + patience_seconds
    while fewest > most:
        waiting = producer.flush(0.05)
        if waiting < fewest:
            fewest = waiting
            deadline = clock() + patience_seconds
        elif clock() >= deadline:
            raise ServiceUnavailableError(
                f"Kafka stored nothing for {patience_seconds:g} s and {waiting} events wait; check that the "
                "broker is up and replay the trace again, what is stored already counts once"
            )
