"""What the server refuses before the engine runs it."""

import re
from collections.abc import Iterator
from itertools import pairwise

from tokentide.sinks.embedded.faults import Fault
from tokentide.sinks.embedded.grants import ENGINES
from tokentide.sinks.embedded.statement import END, Statement, Token

__all__ = ["IS_SUSPECT", "NEEDS_LITERALS", "check_effect", "check_insert", "check_reach"]

IS_SUSPECT = re.compile(rb"file|disk|dictionary|attach|engine|format(?!\s+\w)|\\x", re.IGNORECASE)
"""Finds every text in which `check_reach` may find something; `\\x` can spell any letter of a quoted name."""

NEEDS_LITERALS = re.compile(rb"file|select|\\x", re.IGNORECASE)
"""Finds rows of VALUES whose expressions could call the function `file`, directly or through a query."""

READ_ONLY = "READ_ONLY"
_DEFINING = frozenset({"CREATE", "ATTACH", "ALTER", "REPLACE"})


def check_effect(effect: str, count: int, *, may_write: bool) -> None:
    """Refuse by what the engine's own parser found: the effect class and the statement count; raises Fault."""
    if count > 1:
        raise Fault.new(62, "SYNTAX_ERROR", "Syntax error: Multi-statements are not allowed")
    if not may_write and effect != READ_ONLY:
        raise _readonly()


def check_insert(head: Statement, *, may_write: bool) -> None:
    """Refuse an INSERT with its rows in the request by the text before its rows; raises Fault."""
    if not may_write:
        raise _readonly()
    if "FUNCTION" in head.keywords:
        raise _denied("INSERT INTO FUNCTION is not allowed here")


def check_reach(statement: Statement) -> None:
    """Refuse what reaches outside the data path and has no privilege of its own in ClickHouse.

    `statement` is written as the engine's own formatter writes it, so that both see the same tokens. All other
    table functions are left to the engine's grants, see grants.py. Raises Fault.
    """
    if "OUTFILE" in statement.keywords:
        raise Fault.new(358, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE is not allowed")
    if "INFILE" in statement.keywords:
        raise Fault.new(78, "UNKNOWN_TYPE_OF_QUERY", "Query has infile and was send directly to server")
    words = [token.keyword for token in statement.tokens]
    for place, token in enumerate(statement.tokens):
        name = token.identifier.lower()
        if name == "file" and _is_called(words, place):
            raise _denied("To execute this query, it's necessary to have the grant READ ON FILE")
        if name == "disk" and _is_called(words, place):
            raise _denied("Only the disk of the server's own data path can be used")
    if statement.first in _DEFINING:
        _check_definition(statement)


def _is_called(words: list[str], place: int) -> bool:
    """Whether the token at `place` stands before a bracket, or behind APPLY with or without one."""
    return words[place + 1 : place + 2] == ["("] or "APPLY" in words[max(0, place - 2) : place]


def _check_definition(statement: Statement) -> None:
    """Refuse a definition that would bring in later what a statement may not do itself."""
    tokens = statement.tokens
    words = [token.keyword for token in tokens]
    if "DICTIONARY" in words and not all(map(_is_local, _sources(tokens))):
        raise _denied("A dictionary can only have SOURCE(CLICKHOUSE(TABLE '...' DB '...')) here")
    for token, second, third, fourth in zip(
        tokens, tokens[1:], [*tokens[2:], END], [*tokens[3:], END, END], strict=False
    ):
        if words[0] == "ATTACH" and token.keyword == "FROM" and second.kind == "text":
            raise _denied("ATTACH ... FROM a path is not allowed here")
        # The engine asks for the grant of some engines only.
        if token.keyword == "ENGINE" and second.keyword == "=" and third.identifier not in ENGINES:
            raise _denied(f"It's necessary to have the grant TABLE ENGINE ON {third.identifier}")
        # The table function `format` reads VALUES, also when a view does it inside an INSERT. The other
        # `format` begins with its pattern.
        is_pattern = third.kind == "text" and b"{" in third.value and fourth.keyword in (",", ")")
        if token.identifier.lower() == "format" and second.keyword == "(" and not is_pattern:
            raise _denied("The table function format is not allowed in a definition")


def _sources(tokens: list[Token]) -> Iterator[list[Token]]:
    """What stands in the brackets of each SOURCE clause."""
    for place, (word, bracket) in enumerate(pairwise(tokens)):
        if (word.keyword, bracket.keyword) != ("SOURCE", "("):
            continue
        depth = 0
        for end in range(place + 1, len(tokens)):
            depth += {"(": 1, ")": -1}.get(tokens[end].keyword, 0)
            if depth == 0:
                yield tokens[place + 2 : end]
                break


def _is_local(source: list[Token]) -> bool:
    """Whether a source is a table of this server: no host, no query, nothing that is pasted into a query."""
    names, values = source[2:-1:2], source[3:-1:2]
    return (
        [token.keyword for token in source[:2]] == ["CLICKHOUSE", "("]
        and {token.keyword for token in names} <= {"TABLE", "DB"}
        and {token.kind for token in values} <= {"text"}
    )


def _readonly() -> Fault:
    return Fault.new(164, "READONLY", "Cannot execute query in readonly mode.")


def _denied(reason: str) -> Fault:
    return Fault.new(497, "ACCESS_DENIED", f"Not enough privileges. {reason}.")
