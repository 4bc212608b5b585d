"""What `UsageProducer.track()` costs its caller, on real Apache Kafka.

    .venv/bin/python benchmarks/track.py [--broker HOST:PORT] [--rate 10000] [--seconds 10] [--json]

Inside the clock: each single call, on the wall clock of the thread that calls it, so what it waits for other threads
is in it. The event's fields are made before. The calls come at a steady rate in all cases:

* `one_thread`: one thread calls;
* `threads`: 1,000 threads, each its share;
* `tasks`: 1,000 asyncio tasks of one thread, each its share;
* `broker_down`: one thread calls, and nothing listens where the broker should be.

`added_us_p99` is the p99 less that of the same callers when `track` does nothing. `computing_us_p99` is the p99 of
the same callers when `track` computes for as long as the real one takes in a loop, and shares nothing with anybody:
what this machine makes of any call of that length.
"""

import argparse
import asyncio
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from broker import broker_at
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from figures import percentiles
from load import event

from tokentide.console.kafka.ports import HOST, free_ports
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings

CALLERS = 1_000
_TOPIC = "benchmark.track"
_USERS = 1_000

Durations = list[int]
"""Nanoseconds of each call."""


class Tracker(Protocol):
    """Whoever takes events."""

    def track(self, **fields: Any) -> bool:
        """Take one."""


Case = Callable[[Tracker, int, int], Durations]
_LOOP_CALLS = 2_000


class Nobody:
    """Takes events, and does nothing: the baseline."""

    def track(self, **fields: Any) -> bool:
        """Do nothing."""
        return True


class Computer:
    """Computes, and shares nothing with anybody."""

    def __init__(self, microseconds: float) -> None:
        fields = event(0, _USERS)
        self._times = 1
        self._times = max(1, round(microseconds / in_a_loop(self, [fields] * _LOOP_CALLS)))

    def track(self, **fields: Any) -> bool:
        """Compute."""
        for _ in range(self._times):
            json.dumps(fields)
        return True


def in_a_loop(producer: Tracker, events: list[dict[str, Any]]) -> float:
    """Return the microseconds of a call when one follows the other."""
    before = time.perf_counter()
    for fields in events:
        producer.track(**fields)
    return (time.perf_counter() - before) / len(events) * 1e6


def main() -> None:
    """Measure all cases, and print a table or JSON."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--broker", help="an own Kafka is started when none is given")
    options.add_argument("--rate", type=int, default=10_000)
    options.add_argument("--seconds", type=int, default=10)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    # That a broker is down is meant.
    logging.disable(logging.CRITICAL)
    with broker_at(chosen.broker) as broker:
        result = measure(broker, chosen.rate, chosen.seconds)
    if chosen.json:
        print(json.dumps(result))
    else:
        for name, figures in result.items():
            print(f"{name:12} {'  '.join(f'{key} {value:,}' for key, value in figures.items())}")


def measure(broker: str, rate: int, seconds: int) -> dict[str, dict[str, Any]]:
    """Return the figures of each case. Raises RuntimeError when events were lost while the broker was there."""
    admin = AdminClient({"bootstrap.servers": broker})
    if _TOPIC not in admin.list_topics(timeout=30).topics:
        admin.create_topics([NewTopic(_TOPIC, 8)])[_TOPIC].result()
    (nothing,) = free_ports(1)
    return {
        "one_thread": case(one_thread, broker, rate, seconds),
        "threads": case(threads, broker, rate, seconds),
        "tasks": case(tasks, broker, rate, seconds),
        "broker_down": case(one_thread, f"{HOST}:{nothing}", rate, seconds, is_up=False),
    }


def case(call: Case, broker: str, rate: int, seconds: int, *, is_up: bool = True) -> dict[str, Any]:
    """Measure one case with a producer of its own, that is warm, and with a spool of its own."""
    baseline = percentiles("us", [each / 1000 for each in call(Nobody(), rate, seconds)], 1)
    with tempfile.TemporaryDirectory() as spool:
        settings = ProducerSettings(kafka=KafkaSettings(broker=broker), topic=_TOPIC, spool_dir=spool)
        producer = UsageProducer(settings)
        # The second time it is warm.
        for _ in range(2):
            loop = in_a_loop(producer, [event(number, _USERS) for number in range(_LOOP_CALLS)])
        if is_up:
            producer.flush(10)
        started = time.monotonic()
        durations = call(producer, rate, seconds)
        took = time.monotonic() - started
        if is_up and producer.flush(60) != 0:
            raise RuntimeError(f"{call.__name__}: Kafka did not take all events: {producer.counters}")
        counters = producer.counters
        producer.close(0)
    computing = percentiles("us", [each / 1000 for each in call(Computer(loop), rate, seconds)], 1)
    measured = percentiles("us", [each / 1000 for each in durations], 1)
    return {
        **measured,
        "added_us_p99": round(measured["us_p99"] - baseline["us_p99"], 1),
        "computing_us_p99": computing["us_p99"],
        "us_in_a_loop": round(loop, 1),
        "us_max": round(max(durations) / 1000, 1),
        "calls": len(durations),
        "calls_per_second": round(len(durations) / took),
        "dropped": counters.dropped,
    }


def one_thread(producer: Tracker, rate: int, seconds: int) -> Durations:
    """Call from this thread."""
    durations = Durations()
    started = time.perf_counter()
    for number in range(rate * seconds):
        ahead = started + number / rate - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        _call(producer, number, durations)
    return durations


def threads(producer: Tracker, rate: int, seconds: int) -> Durations:
    """Call from many threads that live all the time."""
    durations = Durations()
    start = threading.Event()
    began = 0.0

    def work(caller: int) -> None:
        start.wait()
        for number in range(caller, rate * seconds, CALLERS):
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            _call(producer, number, durations)

    callers = [threading.Thread(target=work, args=(caller,)) for caller in range(CALLERS)]
    for each in callers:
        each.start()
    began = time.perf_counter()
    start.set()
    for each in callers:
        each.join()
    return durations


def tasks(producer: Tracker, rate: int, seconds: int) -> Durations:
    """Call from many tasks of one event loop."""
    durations = Durations()

    async def work(caller: int, began: float) -> None:
        for number in range(caller, rate * seconds, CALLERS):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            _call(producer, number, durations)

    async def work_all() -> None:
        began = time.perf_counter()
        await asyncio.gather(*(work(caller, began) for caller in range(CALLERS)))

    asyncio.run(work_all())
    return durations


def _call(producer: Tracker, number: int, durations: Durations) -> None:
    fields = event(number, _USERS)
    before = time.perf_counter_ns()
    producer.track(**fields)
    durations.append(time.perf_counter_ns() - before)


if __name__ == "__main__":
    main()
