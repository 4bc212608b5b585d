"""`tokentide replay`: a recorded trace as usage events."""

from pathlib import Path
from typing import Annotated

import typer

from tokentide.console.commands.options import Broker, Json, Models, Rate, Teams, Users

__all__ = ["replay"]


def replay(
    trace: Annotated[
        Path, typer.Option(metavar="FILE", help="Azure LLM trace (CSV), or one usage event a line (JSONL).")
    ],
    models: Models = None,
    users: Users = None,
    teams: Teams = None,
    rate: Rate = "max",
    start: Annotated[
        str, typer.Option(metavar="original|now", help="Keep the recorded times, or let the last be now.")
    ] = "original",
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Publish a recorded trace. Replayed again with the same options it counts nothing: the event ids are the same.

    The whole trace is checked first: of one with a malformed row nothing is published.
    """
    import json as encoder
    from dataclasses import replace as with_changes

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tokentide.console.broker import reach
    from tokentide.console.settings import ConsoleSettings
    from tokentide.console.trace import Pacer, parse_rate, read_trace, trace_options
    from tokentide.console.trace import replay as publish
    from tokentide.console.trace.replay import MAX_WAITING
    from tokentide.producers import ProducerSettings, UsageProducer
    from tokentide.producers.settings import NO_SPOOL
    from tokentide.schemas import SettingsError

    options = trace_options(models=models, users=users, teams=teams, start=start)
    pacer = Pacer(parse_rate(rate))
    settings = ConsoleSettings.from_env(broker=broker)
    terminal = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("Checking the trace", total=None)
        total = 0
        for total, _event in enumerate(read_trace(trace, options), 1):
            if total % 1000 == 0:
                progress.update(task, completed=total)
        if settings.topics.events not in reach(settings.kafka).metadata.topics:
            raise SettingsError(
                f"The topic {settings.topics.events} does not exist on {settings.kafka.broker}; create it with "
                "`tokentide topics init`."
            )
        sender = with_changes(
            ProducerSettings.from_env(),
            kafka=settings.kafka,
            topic=settings.topics.events,
            spool_dir=NO_SPOOL,  # what is not stored is reported, and replayed from the trace
        )
        progress.reset(task, description="Publishing", total=total)
        with UsageProducer(sender) as producer:
            result = publish(
                read_trace(trace, options),
                producer,
                pacer,
                lambda published: progress.update(task, completed=published),
                max_waiting=min(MAX_WAITING, sender.queue_events),
            )
    if json:
        print(
            encoder.dumps(
                {
                    "events": result.events,
                    "input_tokens": result.input_tokens,
                    "output_tokens": result.output_tokens,
                    "seconds": round(result.seconds, 3),
                    "events_per_second": round(result.events_per_second, 1),
                }
            )
        )
        return
    print(
        f"Kafka at {settings.kafka.broker} has stored {result.events:,} events with {result.input_tokens:,} input "
        f"and {result.output_tokens:,} output tokens in {result.seconds:.1f} s: "
        f"{result.events_per_second:,.0f} events/s."
    )
