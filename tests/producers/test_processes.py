"""Forks, and the end of a process: each runs in real processes of its own."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka import Message

Read = Callable[[], list[Message]]

PREPARE = """
import multiprocessing, os, sys, threading, time, warnings
from dataclasses import replace
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
settings = ProducerSettings(kafka=KafkaSettings(broker=sys.argv[1]), topic=sys.argv[2])

def track(producer, name, count):
    for number in range(count):
        producer.track(event_id=f"{name}-{number}", provider="openai", model="m")
"""


def run(script: str, broker: str, topic: str, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script in a new interpreter, where warnings are errors; `first` before the SDK is imported."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", first + PREPARE + script, broker, topic],
        capture_output=True,
        text=True,
        timeout=90,
    )


def found(records: list[Message]) -> Counter[str]:
    return Counter(json.loads(record.value() or b"")["event_id"] for record in records)


def expected(**counts: int) -> Counter[str]:
    return Counter(f"{name}-{number}" for name, count in counts.items() for number in range(count))


@pytest.mark.parametrize("queue_events", [1000, 5])
def test_a_forked_child_sends_its_own_events_and_none_of_its_parent(
    broker: str, topic: str, read: Read, queue_events: int
) -> None:
    script = f"""
producer = UsageProducer(replace(settings, linger_ms=500, queue_events={queue_events}))
track(producer, "before", 50)
child = os.fork()
if child == 0:
    assert producer.counters.tracked == 0
    track(producer, "child", 30)
    sys.exit(0)
track(producer, "after", 30)
assert os.waitpid(child, 0)[1] == 0
"""

    done = run(script, broker, topic)

    assert (done.returncode, done.stderr) == (0, "")
    assert found(read()) == expected(before=50, child=30, after=30)


def test_a_hook_of_the_service_may_track_in_the_child_before_ours_runs(
    broker: str, topic: str, read: Read
) -> None:
    first = """
import os
hooks = []
os.register_at_fork(after_in_child=lambda: [hook() for hook in hooks])
"""
    script = """
producer = UsageProducer(settings)
track(producer, "before", 3)
hooks.append(lambda: track(producer, "hook", 3))
child = os.fork()
if child == 0:
    track(producer, "child", 3)
    os._exit(producer.close(20) or producer.counters.delivered - 6)
assert os.waitpid(child, 0)[1] == 0
looks = []
os.getpid = lambda: looks.append(None)
track(producer, "after", 3)
assert not looks, "a call looks which process this is, though the fork is over"
"""

    done = run(script, broker, topic, first)

    assert (done.returncode, done.stderr) == (0, "")
    assert found(read()) == expected(before=3, hook=3, child=3, after=3)


def test_a_child_may_fork_again_and_close_by_itself(broker: str, topic: str, read: Read) -> None:
    script = """
producer = UsageProducer(settings)
if os.fork() == 0:
    track(producer, "child", 10)
    if os.fork() == 0:
        track(producer, "grandchild", 10)
        os._exit(producer.close(10))
    assert os.wait()[1] == 0
    os._exit(producer.flush(10))
assert os.wait()[1] == 0
assert producer.counters.tracked == 0
"""

    done = run(script, broker, topic)

    assert (done.returncode, done.stderr) == (0, "")
    assert found(read()) == expected(child=10, grandchild=10)


def test_multiprocessing_workers_deliver_before_they_end(broker: str, topic: str, read: Read) -> None:
    script = """
producer = UsageProducer(replace(settings, linger_ms=300))
track(producer, "parent", 10)
fork = multiprocessing.get_context("fork")
workers = [fork.Process(target=track, args=(producer, f"worker{each}", 20)) for each in range(3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
assert [worker.exitcode for worker in workers] == [0, 0, 0]
"""

    done = run(script, broker, topic)

    assert (done.returncode, done.stderr) == (0, "")
    assert found(read()) == expected(parent=10, worker0=20, worker1=20, worker2=20)


def test_a_child_that_can_start_no_thread_does_not_try_at_each_event(
    broker: str, topic: str, read: Read
) -> None:
    script = """
import tokentide.producers.sender as sender
sender._AGAIN_SECONDS = 5.0
producer = UsageProducer(settings)
child = os.fork()
if child == 0:
    tries, start = [], threading.Thread.start
    def refuse(thread):
        tries.append(thread)
        raise RuntimeError("can't start new thread")
    threading.Thread.start = refuse
    track(producer, "early", 50)
    assert len(tries) == 1, len(tries)
    threading.Thread.start = start
    time.sleep(5)
    track(producer, "late", 1)
    os._exit(producer.close(20) or producer.counters.delivered - 51)
assert os.waitpid(child, 0)[1] == 0
"""

    done = run(script, broker, topic)

    line = "usage events wait, for no thread can be started: can't start new thread\n"
    assert (done.returncode, done.stderr) == (0, line)
    assert found(read()) == expected(early=50, late=1)


def test_a_fork_in_the_middle_of_busy_threads_locks_nobody_out(broker: str, topic: str, read: Read) -> None:
    script = """
producer = UsageProducer(replace(settings, queue_events=50))
threads = [threading.Thread(target=track, args=(producer, f"thread{each}", 2000)) for each in range(4)]
for thread in threads:
    thread.start()
children = []
for each in range(5):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        track(producer, f"child{each}", 20)
        os._exit(producer.close(20))
    children.append(child)
for thread in threads:
    thread.join()
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
assert producer.flush(20) == 0
"""

    done = run(script, broker, topic)

    assert (done.returncode, done.stderr) == (0, "")
    assert found(read()) == expected(
        **{f"thread{each}": 2000 for each in range(4)}, **{f"child{each}": 20 for each in range(5)}
    )


def test_the_end_of_the_process_delivers_what_waits(broker: str, topic: str, read: Read) -> None:
    script = """
producer = UsageProducer(replace(settings, linger_ms=500, queue_events=5))
track(producer, "last", 40)
"""

    done = run(script, broker, topic)

    assert (done.returncode, done.stderr) == (0, "")
    assert found(read()) == expected(last=40)


def test_the_end_of_the_process_delivers_what_a_forgotten_producer_took(
    broker: str, topic: str, read: Read
) -> None:
    script = """
track(UsageProducer(replace(settings, linger_ms=500, spool_dir="off")), "forgotten", 4)
"""

    done = run(script, broker, topic)

    assert (done.returncode, done.stderr) == (0, "")
    assert found(read()) == expected(forgotten=4)


@pytest.mark.parametrize(
    ("spool", "left"),
    [
        ("off", "10 usage events were lost: not delivered before the close"),
        (None, "10 usage events were not delivered before the close; they wait in "),
    ],
)
def test_an_unreachable_broker_holds_up_the_end_of_the_process_only_so_long(
    nowhere: str, spool: str | None, left: str
) -> None:
    script = f"""
producer = UsageProducer(replace(settings, exit_timeout_seconds=0.5, spool_dir={spool!r}))
track(producer, "lost", 10)
print(producer.counters.waiting)
"""
    started = time.monotonic()

    done = run(script, nowhere, "usage.events")

    assert (done.returncode, done.stdout) == (0, "10\n")
    assert time.monotonic() - started < 8
    unreachable, last = done.stderr.splitlines()
    assert unreachable.startswith(f"Kafka at {nowhere} does not answer: ")
    assert last.startswith(left)


def test_importing_the_sdk_is_light() -> None:
    script = """
import sys
import tokentide.producers
heavy = {"clickhouse_connect", "faust", "genai_prices", "numpy", "pyarrow"}
print(sorted(heavy & sys.modules.keys()))
"""

    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
