"""Services that are killed, and several that share a spool: real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Message
from support import commands
from support.closed_door import closed_door, open_door

from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings

Read = Callable[[], list[Message]]

SERVICE = """
import os, sys, time
from dataclasses import replace
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings

broker, topic, name, count = sys.argv[1:]
settings = ProducerSettings(kafka=KafkaSettings(broker=broker), topic=topic, queue_events=200, linger_ms=5)
producer = UsageProducer(settings)
for number in range(int(count)):
    event_id = f"{name}-{number}"
    if producer.track(event_id=event_id, provider="openai", model="m", user_id="ann"):
        os.write(1, f"{event_id}\\n".encode())
os.write(1, b"end\\n")
time.sleep(60)
"""


def start(broker: str, topic: str, name: str, count: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVICE, broker, topic, name, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def killed(service: "subprocess.Popen[bytes]", after: int | None = None) -> set[str]:
    """Kill the service after so many accepted events, or after all; return the accepted ones."""
    assert service.stdout is not None
    assert service.stderr is not None
    with service:
        lines = []
        while (line := service.stdout.readline().strip()) not in (b"end", b""):
            lines.append(line)
            if after is not None and len(lines) >= after:
                break
        service.kill()
        # communicate() would read past what readline() holds in its buffer, and tear a line.
        lines += service.stdout.read().splitlines()
        assert b"Traceback" not in service.stderr.read()
    return {line.decode() for line in lines} - {"end"}


def ids(records: list[Message]) -> list[str]:
    return [json.loads(record.value() or b"")["event_id"] for record in records]


def recover(broker: str, topic: str) -> int:
    settings = ProducerSettings(kafka=KafkaSettings(broker=broker), topic=topic)
    with UsageProducer(settings) as producer:
        assert producer.recover(60)
        return producer.counters.recovered


def test_a_service_killed_twice_while_kafka_is_away_loses_nothing(
    broker: str, topic: str, read: Read, state_home: Path
) -> None:
    with closed_door() as (door, address):
        accepted = killed(start(address, topic, "first", 1500))
        accepted |= killed(start(address, topic, "second", 5000), after=700)

        open_door(door, broker)
        recovered = recover(address, topic)

    found = ids(read())
    assert len(accepted) >= 2200
    assert accepted <= set(found)
    assert len(found) == len(set(found)) == recovered
    assert list(state_home.rglob("*.segment")) == []


def test_a_service_killed_while_it_delivers_sends_little_twice(broker: str, topic: str, read: Read) -> None:
    accepted = killed(start(broker, topic, "busy", 20_000), after=4000)

    recover(broker, topic)

    found = ids(read())
    assert accepted <= set(found)
    # Only what was under way at the kill can be there twice.
    assert len(found) - len(set(found)) <= 400


def test_two_live_services_leave_each_others_spool_alone(broker: str, topic: str, read: Read) -> None:
    with closed_door() as (door, address):
        one, other = start(address, topic, "one", 800), start(address, topic, "other", 800)
        accepted = killed(one)
        # The other finds it while it lives itself: at once after its own start, or ten seconds later.
        open_door(door, broker)
        deadline = time.monotonic() + 45
        while len(set(ids(read()))) < 1600:
            assert time.monotonic() < deadline
            time.sleep(0.3)
        accepted |= killed(other)
        recover(address, topic)

    found = ids(read())
    assert set(found) == accepted
    assert len(accepted) == 1600
    assert len(found) == 1600


def test_a_fork_leaves_the_spool_with_the_parent(
    broker: str, topic: str, read: Read, state_home: Path
) -> None:
    script = """
import os, signal, sys, time, warnings
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
producer = UsageProducer(ProducerSettings(kafka=KafkaSettings(broker=sys.argv[1]), topic=sys.argv[2]))
producer.track(event_id="parent", provider="openai", model="m")
child = os.fork()
if child == 0:
    producer.track(event_id="child", provider="openai", model="m")
    producer.close(0)
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(60)
time.sleep(60)
"""
    with closed_door() as (door, address):
        parent = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", script, address, topic],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        open_door(door, broker)

        # The child still lives, and must not hold the lock of its parent's spool.
        recovered = recover(address, topic)
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()

    assert recovered == 2
    assert sorted(ids(read())) == ["child", "parent"]
    assert list(state_home.rglob("*.segment")) == []


def test_a_spool_that_is_deleted_or_left_behind_is_one_again_after_a_moment(
    broker: str, topic: str, read: Read, tmp_path: Path
) -> None:
    """Somebody deletes it, or the service goes to another folder, and `spool_dir` is relative to the first one."""
    script = """
import os, shutil, sys, time
from pathlib import Path
import tokentide.producers.spool_writer as writer
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings
writer._LOOK_SECONDS = 0.1
here = Path.cwd()
producer = UsageProducer(
    ProducerSettings(kafka=KafkaSettings(broker=sys.argv[1]), topic=sys.argv[2], spool_dir="spool")
)

def track(name):
    assert producer.track(event_id=name, provider="openai", model="m")

track("before")
os.chdir("/")
shutil.rmtree(here / "spool")
track("meanwhile")
deadline = time.monotonic() + 30
number = 0
while not any(b"later-" in each.read_bytes() for each in here.rglob("*.segment")):
    assert time.monotonic() < deadline
    track(f"later-{number}")
    number += 1
    time.sleep(0.05)
print(number - 1, flush=True)
os.kill(os.getpid(), 9)
"""
    with closed_door() as (door, address):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, address, topic],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.stdout, done.stderr
        open_door(door, broker)
        settings = ProducerSettings(KafkaSettings(broker=address), topic, spool_dir=str(tmp_path / "spool"))
        with UsageProducer(settings) as heir:
            assert heir.recover(60)

    assert f"later-{int(done.stdout)}" in ids(read())
    assert list(tmp_path.rglob("*.segment")) == []


def test_a_signal_handler_may_track_in_the_middle_of_track(broker: str, topic: str, read: Read) -> None:
    script = """
import itertools, signal, sys
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings
producer = UsageProducer(ProducerSettings(kafka=KafkaSettings(broker=sys.argv[1]), topic=sys.argv[2]))
numbers = itertools.count()

def handle(number, frame):
    assert producer.track(event_id=f"inside-{next(numbers)}", provider="openai", model="m")

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for number in range(6000):
    assert producer.track(event_id=f"outside-{number}", provider="openai", model="m")
signal.setitimer(signal.ITIMER_REAL, 0)
assert producer.flush(30) == 0
print(next(numbers))
"""

    # In a process of its own: the mock cluster, which is here, does not bear signals.
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, broker, topic],
        capture_output=True,
        text=True,
        timeout=90,
    )

    assert (done.returncode, done.stderr) == (0, "")
    inside = int(done.stdout)
    assert inside > 10
    wanted = [f"inside-{number}" for number in range(inside)] + [
        f"outside-{number}" for number in range(6000)
    ]
    assert sorted(ids(read())) == sorted(wanted)


def test_a_signal_handler_may_close_in_the_middle_of_track(nowhere: str) -> None:
    """Without a spool: the event that it interrupts is lost like the others, and counted."""
    script = """
import logging, signal, sys, time
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.schemas import KafkaSettings
logging.disable()
settings = ProducerSettings(kafka=KafkaSettings(broker=sys.argv[1]), spool_dir="off")
for attempt in range(60):
    producer = UsageProducer(settings)

    def handle(number, frame):
        producer.close(0)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001 + attempt / 10_000)
    while producer.track(provider="openai", model="m"):
        pass
    deadline = time.monotonic() + 10
    # The producer's thread may have the answer in hand, and have waited for track() to end.
    while producer.counters.waiting:
        assert time.monotonic() < deadline, producer.counters
        time.sleep(0.01)
"""

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, nowhere], capture_output=True, text=True, timeout=90
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_lists_and_sends_what_is_left(broker: str, topic: str, read: Read) -> None:
    variables = {"TOKENTIDE_BROKER": broker, "TOKENTIDE_TOPIC_EVENTS": topic}
    with closed_door() as (_, address):
        accepted = killed(start(address, topic, "e", 120))

        before = commands.run("spool", "list", environment=variables)
        own = commands.run("spool", "flush", "--json", environment=variables)
        own_words = commands.run("spool", "flush", environment=variables)
        moved = commands.run("spool", "flush", "--all", environment=variables)
        after = commands.run("spool", "list", "--json", environment=variables)

    assert (before.code, own.code, moved.code, after.code) == (0, 0, 0, 0), moved.err
    assert before.out.startswith("dead")
    assert "120 events" in before.out
    assert f"{topic} at {address}" in before.out
    assert json.loads(own.out) == {"sent": 0, "done": True}
    assert own_words.out == (
        f"Kafka at {broker} has stored 0 events of earlier processes; more is left, see `tokentide spool list`.\n"
    )
    assert moved.out == f"Kafka at {broker} has stored 120 events of earlier processes.\n"
    assert json.loads(after.out) == []
    assert set(ids(read())) == accepted
    assert len(read()) == 120


def test_the_command_says_when_there_is_nothing(tmp_path: Path) -> None:
    answer = commands.run("spool", "list", "--dir", str(tmp_path))

    assert (answer.code, answer.out) == (0, "No process left usage events on this machine.\n")


def test_the_command_says_that_a_damaged_file_is_kept(
    broker: str, topic: str, read: Read, state_home: Path
) -> None:
    accepted = sorted(killed(start("127.0.0.1:1", topic, "d", 20)))
    (path,) = state_home.rglob("00000001.segment")
    content = bytearray(path.read_bytes())
    place = content.index(b'"d-7"')
    content[place : place + 5] = b"\xff" * 5
    path.write_bytes(content)

    answer = commands.run(
        "spool", "flush", "--broker", broker, "--all", environment={"TOKENTIDE_TOPIC_EVENTS": topic}
    )

    assert answer.out.endswith(" events of earlier processes; more is left, see `tokentide spool list`.\n")
    assert sorted(ids(read())) == [name for name in accepted if name != "d-7"]


@pytest.mark.parametrize("command", ["list", "flush"])
def test_a_folder_that_is_not_there_is_wrong_use(command: str, broker: str, tmp_path: Path) -> None:
    answer = commands.run(
        "spool", command, "--dir", str(tmp_path / "misspelt"), environment={"TOKENTIDE_BROKER": broker}
    )

    assert answer.code == 2
    assert (
        answer.err
        == f"There is no folder {tmp_path / 'misspelt'}; name the one that holds the spools with --dir.\n"
    )


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_command_refuses_a_spool_that_is_off(options: tuple[str, ...]) -> None:
    answer = commands.run("spool", "flush", *options, environment={"TOKENTIDE_PRODUCER_SPOOL_DIR": "off"})

    assert answer.code == 2
    assert "name the folder with --dir" in answer.err
