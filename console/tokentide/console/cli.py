"""The `tokentide` command."""

import logging
import os
import sys
import traceback
from typing import NoReturn

try:
    import typer
except ImportError:
    sys.exit("The tokentide command needs typer: pip install 'tokentide[console]'")

from tokentide.console.commands import (
    audit,
    budgets,
    demo,
    doctor,
    ingest,
    prices,
    rebuild,
    rejected,
    replay,
    servers,
    spool,
    sql,
    topics,
    up,
    workers,
)
from tokentide.schemas.errors import SettingsError, TokentideError

__all__ = ["app", "main"]

app = typer.Typer(
    name="tokentide",
    help="A streaming meter for LLM spend: Kafka, Faust and ClickHouse, exact to the pico-dollar.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    up.up,
    demo.demo,
    doctor.doctor,
    topics.migrate,
    sql.sql,
    replay.replay,
    audit.audit,
    rebuild.rebuild,
    ingest.ingest,
):
    app.command()(command)
app.add_typer(topics.group, name="topics")
app.add_typer(budgets.group, name="budgets")
app.add_typer(prices.group, name="prices")
app.add_typer(rejected.group, name="rejected")
app.add_typer(spool.group, name="spool")
app.add_typer(workers.group, name="worker")
app.command()(servers.kafka)
app.command()(servers.clickhouse)


def main() -> NoReturn:
    """Run the command and exit: 0, 1 when it ran and the answer is no, 2 for wrong use.

    Errors are one sentence on stderr; the traceback follows when TOKENTIDE_DEBUG is set.
    """
    # What libraries warn of, we say in our words, or not at all; workers set up logging of their own.
    logging.lastResort = logging.NullHandler()
    try:
        app()
    except BrokenPipeError:
        # `tokentide sql ... | head`: the reader has seen enough, and Python's own flush must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(None, 1)
    except (SettingsError, ImportError) as error:
        _fail(error, 2)
    except TokentideError as error:
        _fail(error, 1)
    except Exception as error:
        _fail(error, 1)
    sys.exit(0)


def _fail(error: Exception | None, code: int) -> NoReturn:
    if error is not None:
        if os.environ.get("TOKENTIDE_DEBUG"):
            traceback.print_exception(error)
        print(_sentence(error), file=sys.stderr)
    sys.exit(code)


def _sentence(error: Exception) -> str:
    if isinstance(error, TokentideError):
        return str(error)
    if isinstance(error, ImportError):
        # The modules that need an extra name it.
        known = "pip install" in str(error)
        return str(error) if known else f"A part is not installed ({error}); pip install 'tokentide[all]'."
    return f"tokentide failed: {type(error).__name__}: {error}. Set TOKENTIDE_DEBUG=1 to see where."


if __name__ == "__main__":
    main()
