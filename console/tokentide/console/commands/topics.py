"""`tokentide topics` and `tokentide migrate`: what the pipeline needs before it runs."""

from typing import Annotated

import typer

from tokentide.console.commands.options import Broker, ClickHouse, Json, Partitions

__all__ = ["group", "migrate"]

group = typer.Typer(help="The Kafka topics of the pipeline.", no_args_is_help=True)


@group.callback()
def topics() -> None:
    """The Kafka topics of the pipeline."""


@group.command()
def init(
    broker: Broker = None,
    partitions: Partitions = None,
    replication: Annotated[
        int | None,
        typer.Option(
            min=1, help="Copies of new topics: 3, or one a node when there are fewer.", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Create the topics that are missing and set the settings that differ; never deletes anything."""
    import json as encoder
    from dataclasses import asdict

    from tokentide.console.broker import reach
    from tokentide.console.settings import ConsoleSettings
    from tokentide.console.topics import ensure_topics

    settings = ConsoleSettings.from_env(broker=broker, partitions=partitions)
    changes = ensure_topics(reach(settings.kafka), settings.topic_plans(), replication=replication)
    if json:
        print(encoder.dumps(asdict(changes)))
        return
    for name in changes.created:
        print(f"created  {name}")
    for sentence in changes.altered:
        print(f"changed  {sentence}")
    for name in changes.unchanged:
        print(f"ok       {name}")


def migrate(clickhouse: ClickHouse = None, json: Json = False) -> None:
    """Create or update the tables in ClickHouse."""
    import json as encoder

    from tokentide.console.settings import ConsoleSettings
    from tokentide.sinks.migration import migrate

    settings = ConsoleSettings.from_env(clickhouse_url=clickhouse).clickhouse
    applied = migrate(settings)
    if json:
        print(encoder.dumps({"applied": applied}))
        return
    for name in applied:
        print(f"applied  {name}")
    print(f"The database {settings.database} at {settings.url} is up to date.")
