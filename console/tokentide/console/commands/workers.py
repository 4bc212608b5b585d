"""`tokentide worker`: one production worker in the foreground."""

import typer

from tokentide.console.commands.options import Broker, ClickHouse

__all__ = ["group"]

group = typer.Typer(help="One production worker in the foreground.", no_args_is_help=True)


@group.command()
def meter(broker: Broker = None) -> None:
    """Price events, keep totals, raise budget alerts."""
    _run("meter", broker, None)


@group.command()
def sink(broker: Broker = None, clickhouse: ClickHouse = None) -> None:
    """Write priced events, totals, alerts and rejected events to ClickHouse."""
    _run("sink", broker, clickhouse)


def _run(kind: str, broker: str | None, clickhouse: str | None) -> None:
    import os

    from tokentide.console.broker import reach
    from tokentide.console.settings import ConsoleSettings
    from tokentide.console.workers import run

    settings = ConsoleSettings.from_env(broker=broker, clickhouse_url=clickhouse)
    # The worker reads the environment like every child of `up`; options are only another way to set it.
    os.environ.update(settings.environment())
    reach(settings.kafka)
    run(kind)
