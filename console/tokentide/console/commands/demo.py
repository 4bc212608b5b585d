"""`tokentide demo`: everything at once, on a trace, with the proof."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokentide.console.commands.options import Json, Models, Rate, Teams, Users

if TYPE_CHECKING:
    from tokentide.console.demo import DemoView
    from tokentide.console.stack import Stack

__all__ = ["demo"]

_INTERRUPTED = 130


def demo(
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Azure LLM trace (CSV), or one usage event a line (JSONL); else one is generated.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    models: Models = None,
    users: Users = None,
    teams: Teams = None,
    rate: Rate = "max",
    meters: Annotated[int, typer.Option(min=1, metavar="N", help="Meter workers.")] = 1,
    sinks: Annotated[int, typer.Option(min=1, metavar="N", help="Sink workers.")] = 1,
    json: Json = False,
) -> None:
    """Run a trace through real Kafka, Faust and ClickHouse in a temporary directory, and audit the result.

    Exit code 0 only when the audit is equal. Settings of the environment are left aside: it has servers of its own.
    """
    from rich.console import Console

    from tokentide.console.demo import (
        DemoPlan,
        DemoView,
        Workspace,
        print_summary,
        run_demo,
        to_json,
        try_next,
    )
    from tokentide.console.interrupt import interruptible
    from tokentide.console.kafka.jars import ensure_jars
    from tokentide.console.trace import parse_rate, trace_options

    plan = DemoPlan(
        trace=trace.absolute() if trace else None,
        options=trace_options(models=models, users=users, teams=teams),
        rate=parse_rate(rate),
    )
    to_people = Console(stderr=True) if json else Console()
    view = DemoView(Console(stderr=True))
    result = None
    try:
        with interruptible() as interrupted, Workspace(view.warn) as workspace:
            stack = _stack(workspace.path, meters, sinks, view)
            try:
                # Here rather than in the child: the bar is seen, and so is the way out without a network.
                ensure_jars(progress=view.is_live)
                with view:
                    result = run_demo(plan, stack, workspace.path, view)
                workspace.is_evidence = not result.audit.equal
                if json:
                    print(to_json(result), flush=True)
                else:
                    print_summary(result, to_people)
                for line in try_next(stack.bootstrap, stack.clickhouse_url, is_kept=keep):
                    to_people.print(line, markup=False, highlight=False, soft_wrap=True)
                if keep:
                    interrupted.wait()
            finally:
                _stop(stack, view)
    except KeyboardInterrupt:
        view.warn("Everything is stopped.")
    if result is None:
        raise typer.Exit(_INTERRUPTED)
    raise typer.Exit(0 if result.audit.equal else 1)


def _stack(directory: Path, meters: int, sinks: int, view: "DemoView") -> "Stack":
    import os

    from tokentide.console.display import status_line
    from tokentide.console.program import ProgramState
    from tokentide.console.settings import ConsoleSettings
    from tokentide.console.stack import Stack

    def warn(name: str) -> None:
        for status in stack.statuses():
            if status.name == name and status.state is ProgramState.WAITING:
                view.warn(status_line(status))

    elsewhere = ConsoleSettings.variable_names()
    variables = {name: value for name, value in os.environ.items() if name not in elsewhere}
    stack = Stack(directory, meters=meters, sinks=sinks, variables=variables, on_change=warn)
    return stack


def _stop(stack: "Stack", view: "DemoView") -> None:
    """Stop everything, also when the wish to stop comes in the middle of it."""
    if stack.statuses():
        view.say("Stopping.")
    try:
        stack.stop()
    except KeyboardInterrupt:
        stack.stop()
        raise
