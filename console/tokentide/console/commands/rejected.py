"""`tokentide rejected`: what was refused, why, and submitting it again."""

import json as encoder
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokentide.console.commands.options import Broker, ClickHouse, Json
from tokentide.schemas import SettingsError

if TYPE_CHECKING:
    from tokentide.console.rejected import RejectedBook
    from tokentide.schemas import Rejected

__all__ = ["group"]

group = typer.Typer(
    help="Rejected records and rows: list them, look at one, submit them again.", no_args_is_help=True
)

Place = Annotated[
    str, typer.Argument(metavar="PLACE", help="PARTITION:OFFSET of usage.events, or TOPIC/PARTITION/OFFSET.")
]
_AGE = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SHOWN_BYTES = 4096
_SHOWN_REASON = 160


@group.command("list")
def list_rejected(
    topic: Annotated[str | None, typer.Option(help="Only what was refused of this topic.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only records produced since: 30m, 12h, 7d, 2026-11-01."),
    ] = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Show what was refused, each rejection once, with the reason."""
    from tokentide.console.rejected import RejectedBook
    from tokentide.console.settings import ConsoleSettings

    earliest = _moment(since) if since is not None else None
    settings = ConsoleSettings.from_env(broker=broker)
    book = RejectedBook.read(settings)
    _tell_problems(book)
    chosen = [
        reject
        for reject in book.rejections.values()
        if topic in (None, reject.topic) and (earliest is None or reject.timestamp >= earliest)
    ]
    if json:
        print(encoder.dumps([_summary(book, reject) for reject in chosen], indent=2))
        return
    if not chosen:
        print("Nothing was rejected.")
        return
    from tokentide.console.tables import print_table

    rows = [
        (
            reject.place,
            f"{reject.timestamp:%Y-%m-%d %H:%M:%S}",
            _printable(reject.reason[:_SHOWN_REASON]),
            _retried(book, reject),
        )
        for reject in chosen
    ]
    print_table(("rejected", "produced (UTC)", "reason", "submitted again"), rows)


@group.command("show")
def show(place: Place, broker: Broker = None, json: Json = False) -> None:
    """Show one rejection with its bytes: as text where they are UTF-8, else in hex."""
    from tokentide.console.rejected import RejectedBook, event_id_of, parse_place
    from tokentide.console.settings import ConsoleSettings

    settings = ConsoleSettings.from_env(broker=broker)
    name = parse_place(place, settings.topics.events)
    book = RejectedBook.read(settings, lambda reject: reject.place == name)
    reject = book.find(name)
    shown = _summary(book, reject) | {
        "key": _text(reject.key),
        "value": _row(reject.value) if reject.topic == settings.topics.priced else _text(reject.value),
    }
    if reject.topic == settings.topics.events:
        shown["retry_event_id"] = event_id_of(reject)
    if json:
        print(encoder.dumps(shown, indent=2))
        return
    for label, content in shown.items():
        print(f"{label + ':':<16} {'-' if content is None else content}")


@group.command("retry")
def retry(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLACE]...", help="PARTITION:OFFSET of usage.events, or TOPIC/PARTITION/OFFSET."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="JSON", help="The mended event, for one PLACE.", show_default=False)
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that were not submitted again; narrow it by --reason.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With --all: only where the reason has this text.")
    ] = None,
    broker: Broker = None,
    clickhouse: ClickHouse = None,
) -> None:
    """Submit again; however often and by whomever, each rejection counts once."""
    from tokentide.console import rejected
    from tokentide.console.settings import ConsoleSettings

    names = places or []
    if bool(names) == everything:
        raise SettingsError("Say which: PLACE..., as `tokentide rejected list` shows them, or --all.")
    if reason is not None and not everything:
        raise SettingsError("--reason narrows --all; give both.")
    if file is not None and len(names) != 1:
        raise SettingsError("--file holds one mended event; give it with one PLACE.")
    mended = _read(file) if file is not None else None
    settings = ConsoleSettings.from_env(broker=broker, clickhouse_url=clickhouse)
    chosen = list(dict.fromkeys(rejected.parse_place(name, settings.topics.events) for name in names))

    def is_wanted(reject: "Rejected") -> bool:
        return (reason or "") in reject.reason if everything else reject.place in chosen

    book = rejected.RejectedBook.read(settings, is_wanted)
    _tell_problems(book)
    if everything:
        chosen = [
            place
            for place, reject in book.rejections.items()
            if is_wanted(reject) and place not in book.retried_at
        ]
    for place in chosen:
        book.find(place)
    failed = 0
    for outcome in rejected.retry(settings, book, chosen, mended):
        # A refusal is a sentence that names the place already.
        line = f"{outcome.place} {outcome.words}." if outcome.is_done else outcome.words
        typer.echo(line, err=not outcome.is_done)
        failed += not outcome.is_done
    if not chosen:
        print("There is nothing to submit again.")
    if failed:
        raise typer.Exit(1)


def _summary(book: "RejectedBook", reject: "Rejected") -> dict[str, Any]:
    retried = book.retried_at.get(reject.place)
    return {
        "place": reject.place,
        "topic": reject.topic,
        "partition": reject.partition,
        "offset": reject.offset,
        "row": reject.row,
        "timestamp": reject.timestamp.isoformat(),
        "reason": _printable(reject.reason),
        "retried_at": None if retried is None else retried.isoformat(),
    }


def _retried(book: "RejectedBook", reject: "Rejected") -> str:
    retried = book.retried_at.get(reject.place)
    return "-" if retried is None else f"{retried:%Y-%m-%d %H:%M:%S}"


def _tell_problems(book: "RejectedBook") -> None:
    for problem in book.problems:
        typer.echo(problem, err=True)


def _moment(text: str) -> datetime:
    age = _AGE.fullmatch(text)
    if age is not None:
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        except OverflowError:
            return datetime.min.replace(tzinfo=UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--since takes 30m, 12h, 7d or a date like 2026-11-01, not {text!r}.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}.") from error


def _text(value: bytes | None) -> str | None:
    """Return bytes for a terminal: printable, and not without end."""
    if value is None:
        return None
    head = value[:_SHOWN_BYTES]
    more = f" ... ({len(value):,} bytes in all)" if len(value) > _SHOWN_BYTES else ""
    try:
        # The cut may go through a character.
        return _printable(head.decode("utf-8", "strict" if not more else "ignore")) + more
    except UnicodeDecodeError:
        return f"0x{head.hex()}{more}"


def _row(value: bytes | None) -> str | None:
    """Return the filled columns of a priced row."""
    import pyarrow as pa

    from tokentide.schemas.columns import read_chunk

    try:
        [row] = read_chunk(value or b"").to_pylist()
    except (pa.ArrowInvalid, ValueError):
        return _text(value)
    return _text(
        encoder.dumps({k: v for k, v in row.items() if v not in (None, 0, "", [])}, default=str).encode()
    )


def _printable(text: str) -> str:
    """Escape what would steer a terminal."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else f"\\x{ord(letter):02x}" for letter in text
    )
