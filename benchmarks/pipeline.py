"""tokentide in the race: one meter and one sink as in production, over the same topic as everybody."""

import time
import urllib.request
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from answers import problems, read_tokentide
from figures import Run
from load import Course
from prometheus_client.parser import text_string_to_metric_families

from tokentide.console.kafka.ports import ports_in_a_row
from tokentide.console.lag import LagReader
from tokentide.console.stack import Stack
from tokentide.schemas import TokentideError
from tokentide.sinks import connect

WHOLE, METER, SINK = "tokentide", "tokentide meter", "tokentide sink"
_METER, _SINK = "meter-1", "sink-1"
_LOOK_SECONDS = 0.05
_ASK_SECONDS = 0.25
# What a meter has taken of its topic, and what a sink holds or has stored, in events.
_TAKEN = {
    _METER: ("tokentide_records_taken_total",),
    _SINK: ("tokentide_rows_gathered", "tokentide_rows_on_the_way", "tokentide_rows_stored_total"),
}


@dataclass
class Watch:
    """The CPU of one worker as time goes by, and when it was warm."""

    process: psutil.Process
    times: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak_rss_bytes: int = 0
    warm: tuple[float, int] | None = None
    """Unix time of the worker's own snapshot, and the events that it had taken in by then."""

    def look(self) -> None:
        """Note CPU and memory now."""
        used = self.process.cpu_times()
        self.times.append(time.time())
        self.seconds.append(used.user + used.system)
        self.peak_rss_bytes = max(self.peak_rss_bytes, self.process.memory_info().rss)

    def at(self, moment: float) -> float:
        """Return the CPU seconds at a moment between two looks."""
        after = min(max(bisect_left(self.times, moment), 1), len(self.times) - 1)
        before = after - 1
        span = self.times[after] - self.times[before]
        share = (moment - self.times[before]) / span if span else 0.0
        return self.seconds[before] + share * (self.seconds[after] - self.seconds[before])

    def run(self, events: int) -> Run:
        """Return what it took from the moment that it was warm until the last look."""
        if self.warm is None:
            return Run(problem="was never warm")
        moment, taken = self.warm
        counted = events - taken
        if counted < events // 4:
            return Run(problem=f"only {counted:,} events were left when the clock started: take more events")
        return Run(
            us_per_event=(self.seconds[-1] - self.at(moment)) / counted * 1e6,
            events_per_second=counted / (self.times[-1] - moment),
            rss_mb=self.peak_rss_bytes / 1e6,
        )


def variables(name: str, events_topic: str) -> dict[str, str]:
    """Return the settings that give a pipeline names of its own for all but the topic of events.

    The second worker serves its metrics at the port behind the first one's.
    """
    topics = ("REJECTED", "PRICED", "SPEND", "ALERTS", "LIMITS", "BUDGETS", "PRICES")
    return {
        "TOKENTIDE_TOPIC_EVENTS": events_topic,
        **{f"TOKENTIDE_TOPIC_{topic}": f"{name}.{topic.lower()}" for topic in topics},
        "TOKENTIDE_METER_ID": f"{name}-meter",
        "TOKENTIDE_SINK_ID": f"{name}-sink",
        "TOKENTIDE_CLICKHOUSE_DATABASE": name.replace("-", "_"),
        "TOKENTIDE_METRICS_PORT": str(ports_in_a_row(2)),
    }


def workers(servers: Stack, folder: Path, events_topic: str, environment: Mapping[str, str]) -> Stack:
    """Return a meter and a sink under names of their own on these servers; not started yet."""
    return Stack(
        folder,
        broker=servers.bootstrap,
        clickhouse_url=servers.clickhouse_url,
        partitions=servers.settings.partitions,
        variables={**environment, **variables(folder.name, events_topic)},
    )


def run(
    course: Course, servers: Stack, folder: Path, environment: Mapping[str, str], limit_seconds: float
) -> dict[str, Run]:
    """Run it over the course: the meter, the sink, and both; whatever goes wrong is the problem of the Runs."""
    stack = workers(servers, folder, course.topic, environment)
    try:
        stack.start()
        watches = watch(stack, course, limit_seconds)
        client = connect(stack.settings.clickhouse)
        wrong = problems(course.want, read_tokentide(client))
        client.command(f"DROP DATABASE {stack.settings.clickhouse.database}")
        client.close()
        if wrong:
            raise RuntimeError("; ".join(wrong))
    except (TokentideError, RuntimeError, OSError, psutil.NoSuchProcess) as error:
        return dict.fromkeys((WHOLE, METER, SINK), Run(problem=str(error)))
    finally:
        stack.stop()
    meter, sink = (watches[name].run(course.events) for name in (_METER, _SINK))
    whole = Run(
        # Each over the events that it counted itself.
        us_per_event=meter.us_per_event + sink.us_per_event,
        # Both end when the last row is stored.
        events_per_second=meter.events_per_second,
        rss_mb=meter.rss_mb + sink.rss_mb,
        problem=meter.problem or sink.problem,
    )
    return {WHOLE: whole, METER: meter, SINK: sink}


def watch(stack: Stack, course: Course, limit_seconds: float) -> dict[str, Watch]:
    """Look at both workers until nothing is behind. Raises RuntimeError at the limit, or when one was restarted."""
    pids = {name: stack.processes[name].pid for name in _TAKEN}
    watches = {name: Watch(psutil.Process(pid)) for name, pid in pids.items()}
    deadline = time.monotonic() + limit_seconds
    asked = 0.0
    with LagReader(stack.settings) as lag:
        while True:
            for each in watches.values():
                each.look()
            if time.monotonic() - asked > _ASK_SECONDS:
                asked = time.monotonic()
                for name, each in watches.items():
                    each.warm = each.warm or warm(stack, name, course, since=each.times[0])
                if all(each.warm for each in watches.values()):
                    behind = lag.read()
                    if not any(behind.values()):
                        break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"still behind after {limit_seconds:.0f} s: {lag.read()}")
            time.sleep(_LOOK_SECONDS)
    for each in watches.values():
        each.look()
    if {name: stack.processes[name].pid for name in _TAKEN} != pids:
        raise RuntimeError("a worker ended and was started again")
    return watches


def warm(stack: Stack, worker: str, course: Course, since: float) -> tuple[float, int] | None:
    """Ask the worker's metrics: return the moment of its snapshot and the events taken in, if they are enough.

    A snapshot from before `since` does not count: nobody knows the CPU of then.
    """
    with urllib.request.urlopen(stack.metrics_urls[worker], timeout=30) as answer:
        text = answer.read().decode()
    topic = course.topic if worker == _METER else stack.settings.topics.priced
    taken, moment = 0.0, 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "tokentide_snapshot_timestamp_seconds":
                moment = sample.value
            elif sample.name in _TAKEN[worker] and sample.labels["topic"] == topic:
                taken += sample.value
    return (moment, int(taken)) if taken >= course.warm and moment >= since else None
