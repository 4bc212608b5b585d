"""`tokentide sql`: a question to ClickHouse."""

import json as encoder
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tokentide.console.commands.options import ClickHouse, Json
from tokentide.schemas import SettingsError

if TYPE_CHECKING:
    from tokentide.sinks import ClickHouseSettings

__all__ = ["sql"]

# A list of names, one of types, then one of texts for each row; nothing for a statement without an answer.
_ROWS = "JSONCompactStringsEachRowWithNamesAndTypes"
_NULL = "ᴺᵁᴸᴸ"  # how ClickHouse writes it there
_OWN_FORMAT = re.compile(r"\bFORMAT\s+\w+\s*;?\s*$", re.IGNORECASE)
_NUMBER = re.compile(r"(Nullable\()?(U?Int|Float|Decimal)")
# A parser's hundred ideas of what could have stood there hide the sentence before them.
_IDEAS = re.compile(r"[.,;]? Expected one of: .*(?= \(code )", re.DOTALL)
_UNKNOWN_TABLE = 60


def sql(
    query: Annotated[str, typer.Argument(metavar="SQL", help="For example: SELECT count() FROM usage")],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Print in this ClickHouse format: CSVWithNames, JSON, Parquet, ..."
        ),
    ] = None,
    json: Json = False,
    clickhouse: ClickHouse = None,
) -> None:
    """Ask ClickHouse and print a table; --format and --json print what ClickHouse sends, byte by byte."""
    from tokentide.console.settings import ConsoleSettings

    if not query.strip():
        raise SettingsError("The query is empty; ask like `tokentide sql 'SELECT count() FROM usage'`.")
    if json and format:
        raise SettingsError("--json is short for --format JSON; give one of them.")
    wanted = format or ("JSON" if json else _ROWS)
    answer = _ask(ConsoleSettings.from_env(clickhouse_url=clickhouse).clickhouse, query, wanted)
    if wanted != _ROWS or _OWN_FORMAT.search(query):
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    elif answer:
        _print_rows(answer)
    else:
        print("Done.")


def _ask(settings: "ClickHouseSettings", query: str, format_name: str) -> bytes:
    """Return the answer in this format, or in the one that the query names itself."""
    from tokentide.sinks.clients import connect
    from tokentide.sinks.failures import CLIENT_ERRORS, translate

    client = connect(settings)
    try:
        return client.raw_query(query, transport_settings={"X-ClickHouse-Format": format_name})
    except CLIENT_ERRORS as error:
        advice = None if getattr(error, "code", None) == _UNKNOWN_TABLE else "mend the query"
        refusal = translate(error, settings, "answer", advice)
        raise type(refusal)(_IDEAS.sub("", str(refusal))) from error
    finally:
        client.close()


def _print_rows(answer: bytes) -> None:
    from tokentide.console.tables import print_table

    names, types, *rows = [encoder.loads(line) for line in answer.splitlines()]
    print_table(
        names,
        [["-" if text == _NULL else text for text in row] for row in rows],
        right=[index for index, kind in enumerate(types) if _NUMBER.match(kind)],
    )
    print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")
