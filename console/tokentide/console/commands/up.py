"""`tokentide up`: the whole pipeline on this machine, in one terminal."""

from pathlib import Path
from typing import Annotated

import typer

from tokentide.console.commands.options import Broker, ClickHouse, Partitions

__all__ = ["up"]


def up(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keeps everything; else this platform's data directory.", show_default=False
        ),
    ] = None,
    broker: Broker = None,
    clickhouse: ClickHouse = None,
    meters: Annotated[int, typer.Option(min=0, metavar="N", help="Meter workers.")] = 1,
    sinks: Annotated[int, typer.Option(min=0, metavar="N", help="Sink workers.")] = 1,
    partitions: Partitions = None,
    kafka_port: Annotated[int, typer.Option(metavar="N", help="Port of the embedded Kafka.")] = 9092,
    clickhouse_port: Annotated[
        int, typer.Option(metavar="N", help="Port of the embedded ClickHouse.")
    ] = 8123,
    ingest_port: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Take usage over HTTP at this port too, as `ingest` does.", show_default=False
        ),
    ] = None,
) -> None:
    """Start Kafka, ClickHouse and the workers; Ctrl-C stops all. Started again, it goes on with its data.

    With --broker or --clickhouse that server is used, and none of its kind is started.
    """
    from tokentide.console.data_dir import default_data_dir
    from tokentide.console.display import Display
    from tokentide.console.interrupt import interruptible
    from tokentide.console.stack import Stack

    directory = (data or default_data_dir()).expanduser().resolve()
    with Display(directory) as display, interruptible() as interrupted:
        stack = Stack(
            directory,
            broker=broker,
            clickhouse_url=clickhouse,
            meters=meters,
            sinks=sinks,
            partitions=partitions,
            kafka_port=kafka_port,
            clickhouse_port=clickhouse_port,
            ingest_port=ingest_port,
            on_change=display.note,
        )
        display.watch(stack)
        try:
            with stack:
                display.say(
                    f"Everything runs. Kafka: {stack.bootstrap}  ClickHouse: {stack.clickhouse_url}",
                    *([] if stack.ingest_url is None else [f"Usage over HTTP: {stack.ingest_url}"]),
                    *(f"Metrics of {name}: {url}" for name, url in stack.metrics_urls.items()),
                )
                interrupted.wait()
        except KeyboardInterrupt:
            pass
        finally:
            stack.stop()
    print("Everything is stopped.")
