"""What the server refuses before the engine runs it."""

import re

from tokentide.sinks.embedded.faults import Fault
from tokentide.sinks.embedded.statement import Statement

__all__ = ["SPELLS_FILE", "check_effect", "check_values", "check_words"]

SPELLS_FILE = re.compile(rb"file|\\x", re.IGNORECASE)
"""Finds every text that may name the function `file`, which reads any local file and has no privilege."""

READ_ONLY = "READ_ONLY"
CONTROL = "CONTROL"
UNPARSED = "UNKNOWN"


def check_words(statement: Statement) -> None:
    """Refuse what reaches outside the data path and has no privilege of its own in ClickHouse.

    Table functions and table engines are left to the engine's grants. Raises Fault.
    """
    if statement.is_many:
        raise _many()
    words = statement.keywords
    if "INFILE" in words and statement.first == "INSERT":
        raise Fault.new(78, "UNKNOWN_TYPE_OF_QUERY", "Query has infile and was send directly to server")
    if statement.calls_file:
        raise _file()
    if statement.first == "ATTACH" and any(
        clause.keyword == "FROM" and place.kind == "text"
        for clause, place in zip(statement.tokens, statement.tokens[1:], strict=False)
    ):
        raise Fault.new(497, "ACCESS_DENIED", "ATTACH ... FROM a path is not allowed here")


def check_values(values: Statement) -> None:
    """Refuse the same in the expressions of `VALUES`; raises Fault."""
    if SPELLS_FILE.search(values.sql) and values.calls_file:
        raise _file()
    if b";" in values.sql and values.is_many:
        raise _many()


def check_effect(statement: Statement, effect: str, count: int, calls: str, *, may_write: bool) -> None:
    """Refuse by what the engine's own parser found: the effect class, the statement count, the functions.

    `calls` is the engine's syntax tree, or empty when nothing in the text can spell `file`. Raises Fault.
    """
    if count > 1:
        raise _many()
    if effect == CONTROL and "OUTFILE" in statement.keywords:
        raise Fault.new(358, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE is not allowed")
    if any(line.split()[:2] == ["Function", "file"] for line in calls.splitlines()):
        raise _file()
    if not may_write and effect not in (READ_ONLY, UNPARSED):
        raise Fault.new(164, "READONLY", "Cannot execute query in readonly mode.")


def _many() -> Fault:
    return Fault.new(62, "SYNTAX_ERROR", "Syntax error: Multi-statements are not allowed")


def _file() -> Fault:
    message = "Not enough privileges. To execute this query, it's necessary to have the grant READ ON FILE."
    return Fault.new(497, "ACCESS_DENIED", message)
