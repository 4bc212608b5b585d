"""`tokentide spool`: what services left on this machine's disk for Kafka."""

from typing import Annotated

import typer

from tokentide.console.commands.options import Broker, Json

__all__ = ["group"]

group = typer.Typer(help="Usage events on this machine's disk that Kafka has not.", no_args_is_help=True)
Dir = Annotated[
    str | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="Where the spools lie; else TOKENTIDE_PRODUCER_SPOOL_DIR, else the user's state folder.",
        show_default=False,
    ),
]


@group.command("list")
def list_spools(folder: Dir = None, json: Json = False) -> None:
    """Show the spool of each process, alive or dead, and the files that were kept aside."""
    import json as encoder
    from dataclasses import asdict
    from datetime import UTC, datetime

    from tokentide.producers import ProducerSettings
    from tokentide.producers.spool_left import left, roots

    chosen = _existing(folder) or ProducerSettings.from_env().spool_dir
    found = [each for root in roots(chosen) for each in left(root)]
    if json:
        print(encoder.dumps([asdict(each) | {"path": str(each.path)} for each in found]))
        return
    for each in found:
        since = f" since {datetime.fromtimestamp(each.oldest, UTC):%Y-%m-%d %H:%M} UTC" if each.oldest else ""
        print(
            f"{each.state:8} {each.events:>9,} events  {each.size / 1e6:6.1f} MB  {each.destination.topic} at "
            f"{each.destination.broker}{since}  {each.path}"
        )
    if not found:
        print("No process left usage events on this machine.")


@group.command()
def flush(
    broker: Broker = None,
    folder: Dir = None,
    all_: Annotated[
        bool,
        typer.Option("--all", help="Also what was meant for other brokers or topics: Kafka has moved."),
    ] = False,
    expired: Annotated[
        bool,
        typer.Option(
            "--expired", help="Also what was kept aside for its age: it may count twice if Kafka had it."
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Give up after so long.")] = 60.0,
    json: Json = False,
) -> None:
    """Send what dead processes left; exit code 1 when something is left after the timeout."""
    import json as encoder
    from dataclasses import replace

    from tokentide.console.broker import reach
    from tokentide.console.settings import ConsoleSettings
    from tokentide.producers import ProducerSettings, UsageProducer
    from tokentide.producers.settings import NO_SPOOL
    from tokentide.producers.spool_folder import Destination
    from tokentide.producers.spool_left import left, revive, roots, take_over
    from tokentide.schemas import SettingsError

    settings = ConsoleSettings.from_env(broker=broker)
    sender = replace(ProducerSettings.from_env(), kafka=settings.kafka, topic=settings.topics.events)
    chosen = _existing(folder) or sender.spool_dir
    if chosen == NO_SPOOL:
        raise SettingsError("TOKENTIDE_PRODUCER_SPOOL_DIR is off; name the folder with --dir.")
    reach(settings.kafka)
    if expired:
        sender = replace(sender, spool_max_age_seconds=float("inf"))
    destination = Destination(settings.kafka.broker, settings.topics.events)
    sent, is_empty = 0, True
    for root in roots(chosen):
        if not root.is_dir():
            continue
        if all_:
            take_over(root, destination)
        if expired:
            revive(root, destination)
        with UsageProducer(replace(sender, spool_dir=str(root))) as producer:
            is_empty &= producer.recover(timeout)
            sent += producer.counters.recovered
    if json:
        print(encoder.dumps({"sent": sent, "done": is_empty}))
    else:
        # For other brokers and topics too, and what was kept aside: whoever reads this may delete the disk.
        is_all = is_empty and all(each.state == "live" for root in roots(chosen) for each in left(root))
        rest = "" if is_all else "; more is left, see `tokentide spool list`"
        print(f"Kafka at {settings.kafka.broker} has stored {sent:,} events of earlier processes{rest}.")
    raise typer.Exit(0 if is_empty else 1)


def _existing(folder: str | None) -> str | None:
    from pathlib import Path

    from tokentide.schemas import SettingsError

    if folder is not None and not Path(folder).is_dir():
        raise SettingsError(f"There is no folder {folder}; name the one that holds the spools with --dir.")
    return folder
