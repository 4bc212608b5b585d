"""The demo itself: start, set budgets, replay, wait, audit, ask."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tokentide.console.audit import AuditReport, run_audit
from tokentide.console.budgets import write_budget
from tokentide.console.demo.answers import Answers, read_answers
from tokentide.console.demo.budgets import TraceSurvey, survey
from tokentide.console.demo.view import DemoView
from tokentide.console.demo.watcher import Watcher
from tokentide.console.lag import wait_until_settled
from tokentide.console.stack import Stack
from tokentide.console.trace import Pacer, Rate, TraceOptions, generate_trace, read_trace, replay
from tokentide.producers import ProducerSettings, UsageProducer
from tokentide.producers.settings import NO_SPOOL
from tokentide.schemas import Budget

__all__ = ["DemoPlan", "DemoResult", "run_demo"]

_SETTLE_SECONDS = 120.0
_SLOWEST_EVENTS_PER_SECOND = 1_000


@dataclass(frozen=True)
class DemoPlan:
    """What is replayed, and how; without a trace one is generated."""

    trace: Path | None = None
    options: TraceOptions = field(default_factory=TraceOptions)
    rate: Rate = field(default_factory=Rate)


@dataclass(frozen=True)
class DemoResult:
    """What came of it.

    `seconds` is all of it, from before the start of the servers to the answers; `events_per_second` counts from the
    first event published until every one was metered, stored in ClickHouse and committed.
    """

    budgets: tuple[Budget, ...]
    answers: Answers
    audit: AuditReport
    seconds: float
    events_per_second: float


def run_demo(
    plan: DemoPlan,
    stack: Stack,
    directory: Path,
    view: DemoView,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> DemoResult:
    """Run the plan on the stack, which is started here and left running, also when this raises.

    A generated trace goes into `directory`. Blocks. Raises SettingsError for a trace that cannot be read, before
    anything is started; afterwards what Stack, replay, wait_until_settled and run_audit raise.
    """
    began = clock()
    trace, known = prepare(plan, directory, view)
    _start(stack, known, view)
    settings = stack.settings
    settled_at: list[float] = []

    def note(behind: Mapping[str, int]) -> None:
        """Keep the first look of the quiet at the end."""
        if any(behind.values()):
            settled_at.clear()
        else:
            settled_at.append(clock())

    sender = ProducerSettings(kafka=settings.kafka, topic=settings.topics.events, spool_dir=NO_SPOOL)
    with Watcher(settings, known.events, view.show) as watcher, UsageProducer(sender) as producer:
        view.say(f"Replaying {trace.name}: {known.events:,} events.")
        published_from = clock()
        replay(read_trace(trace, plan.options), producer, Pacer(plan.rate), watcher.note_published)
        view.say("All events are stored in Kafka; waiting until the meter and the sink have dealt with them.")
        wait_until_settled(settings, _SETTLE_SECONDS + known.events / _SLOWEST_EVENTS_PER_SECOND, note)
    view.say("Auditing: Kafka = Faust state = ClickHouse raw = ClickHouse aggregates?")
    report = run_audit(settings, on_progress=lambda what, count: view.hint(f"Auditing: {count:,} {what}"))
    answers = read_answers(settings.clickhouse)
    return DemoResult(
        budgets=known.budgets,
        answers=answers,
        audit=report,
        seconds=clock() - began,
        events_per_second=known.events / max(settled_at[0] - published_from, 1e-3),
    )


def prepare(plan: DemoPlan, directory: Path, view: DemoView) -> tuple[Path, TraceSurvey]:
    """Return the trace and what is known of it; it is read whole, so a malformed row is found here."""
    trace = plan.trace
    if trace is None:
        view.say("Generating a trace with the distribution of the Azure LLM inference trace 2023.")
        trace = directory / "generated.csv"
        generate_trace(trace)
    else:
        view.say(f"Reading {trace}.")
    return trace, survey(read_trace(trace, plan.options))


def _start(stack: Stack, known: TraceSurvey, view: DemoView) -> None:
    view.say("Starting Kafka and ClickHouse.")
    stack.start_servers()
    view.say(f"Setting {len(known.budgets)} budgets, starting the workers.")
    for budget in known.budgets:
        write_budget(stack.settings.kafka, stack.settings.topics.budgets, budget)
    stack.start_workers()
    stack.wait_ready()
