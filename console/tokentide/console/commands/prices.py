"""`tokentide prices`: own prices of models, which win over the catalogue."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from tokentide.console.commands.options import Broker, Json
from tokentide.schemas import PriceOverride, SettingsError
from tokentide.schemas.provider import canonical_provider

__all__ = ["group"]

group = typer.Typer(
    help="Own prices: what a model costs from a moment on, whatever the catalogue says.", no_args_is_help=True
)

Model = Annotated[str, typer.Argument(metavar="PROVIDER/MODEL", help="Like openai/gpt-4o.")]
_MTOK = "USD for a million tokens"


@group.command("set")
def set_price(
    model: Model,
    input_price: Annotated[str, typer.Option("--input", metavar="USD", help=f"{_MTOK} of input.")],
    output_price: Annotated[
        str, typer.Option("--output", metavar="USD", help=f"{_MTOK} of output, with reasoning.")
    ],
    cache_read: Annotated[
        str | None,
        typer.Option(metavar="USD", help=f"{_MTOK} read from a cache. [default: the price of input]"),
    ] = None,
    cache_write: Annotated[
        str | None,
        typer.Option(metavar="USD", help=f"{_MTOK} written to a cache. [default: the price of input]"),
    ] = None,
    per_request: Annotated[
        str, typer.Option(metavar="USD", help="USD for each request, besides its tokens.")
    ] = "0",
    valid_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Event time from which it holds, like 2026-12-01 or 2026-12-01T08:00Z; UTC. [default: now]",
        ),
    ] = None,
    broker: Broker = None,
    json: Json = False,
) -> None:
    """Set what a model costs; events that were priced already keep their price. The same again writes nothing."""
    from tokentide.console.prices import new_price, read_prices, write_price
    from tokentide.console.settings import ConsoleSettings

    provider, name = _split(model)
    moment = datetime.now(UTC).replace(microsecond=0) if valid_from is None else _moment(valid_from)
    price = new_price(
        provider=provider,
        model=name,
        valid_from=moment,
        input_usd_per_mtok=_usd("--input", input_price),
        output_usd_per_mtok=_usd("--output", output_price),
        cache_read_usd_per_mtok=None if cache_read is None else _usd("--cache-read", cache_read),
        cache_write_usd_per_mtok=None if cache_write is None else _usd("--cache-write", cache_write),
        usd_per_request=_usd("--per-request", per_request),
    )
    settings = ConsoleSettings.from_env(broker=broker)
    known = read_prices(settings.kafka, settings.topics.prices).prices
    is_new = known.get((price.key(), price.valid_from)) != price
    if is_new:
        write_price(settings.kafka, settings.topics.prices, price)
    if json:
        print(price.model_dump_json())
    else:
        print(f"The price of {price.key()} is {'set' if is_new else 'unchanged'}: {_words(price)}.")


@group.command("list")
def list_prices(broker: Broker = None, json: Json = False) -> None:
    """Show the own prices that hold, each until the next one of its model."""
    from tokentide.console.prices import read_prices
    from tokentide.console.settings import ConsoleSettings

    settings = ConsoleSettings.from_env(broker=broker)
    known = read_prices(settings.kafka, settings.topics.prices)
    for problem in known.problems:
        typer.echo(problem, err=True)
    ordered = known.ordered()
    if json:
        print("[" + ",".join(price.model_dump_json() for price in ordered) + "]")
        return
    if not ordered:
        print("There are no own prices; the catalogue holds. Make one with `tokentide prices set`.")
        return
    from tokentide.console.tables import print_table

    rows = [
        (
            price.key(),
            price.valid_from.isoformat(),
            *(f"{usd:f}" for usd in _per_mtok(price)),
            f"{price.usd_per_request:f}",
        )
        for price in ordered
    ]
    names = ("model", "from", "input", "output", "cache read", "cache write", "a request")
    print_table(names, rows, right=(2, 3, 4, 5, 6))


@group.command("remove")
def remove(
    model: Model,
    valid_from: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="Which one, when the model has several; UTC."),
    ] = None,
    broker: Broker = None,
) -> None:
    """Withdraw an own price; for events from now on the one before it holds, or the catalogue."""
    from tokentide.console.prices import read_prices, write_price
    from tokentide.console.settings import ConsoleSettings

    provider, name = _split(model)
    moment = None if valid_from is None else _moment(valid_from)
    settings = ConsoleSettings.from_env(broker=broker)
    known = read_prices(settings.kafka, settings.topics.prices)
    price = known.choose(f"{canonical_provider(provider)}/{name}", moment)
    write_price(settings.kafka, settings.topics.prices, price.model_copy(update={"withdrawn": True}))
    print(f"The price of {price.key()} from {price.valid_from.isoformat()} is removed.")


def _split(model: str) -> tuple[str, str]:
    provider, _, name = model.partition("/")
    if not provider or not name:
        raise SettingsError(f"Name the model as provider/model, like openai/gpt-4o, not {model!r}.")
    return provider, name


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--from must be a time like 2026-12-01T08:00Z, not {text!r}.") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _usd(option: str, text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise SettingsError(f"{option} must be a number of USD like 2.50, not {text!r}.") from None


def _per_mtok(price: PriceOverride) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """Return what a million tokens cost: input, output, read from and written to a cache."""
    per_input, read, write = (
        price.input_usd_per_mtok,
        price.cache_read_usd_per_mtok,
        price.cache_write_usd_per_mtok,
    )
    return (
        per_input,
        price.output_usd_per_mtok,
        per_input if read is None else read,
        per_input if write is None else write,
    )


def _words(price: PriceOverride) -> str:
    per_input, per_output, read, write = (f"{usd:f}" for usd in _per_mtok(price))
    request = f", and {price.usd_per_request:f} USD a request" if price.usd_per_request else ""
    return (
        f"{per_input} USD for a million tokens of input, {per_output} of output, {read} read from and {write} "
        f"written to a cache{request}, for events from {price.valid_from.isoformat()} on"
    )
