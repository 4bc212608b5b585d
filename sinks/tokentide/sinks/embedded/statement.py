"""What can be known about a statement from its words: its inline data, its output format, its dangers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

__all__ = ["END", "InlineData", "Statement", "Token", "find_inline_data"]

# What is not closed runs to the end: possessive repeats and an end for everything keep this linear in its text.
_TOKEN = re.compile(
    rb"""
      (?P<space>   \s+ | --[^\n]* | \#[\ !][^\n]* )
    | (?P<comment> /\* )
    | (?P<text>    '(?:[^'\\]|\\.|'')*+(?:'|\\?\Z) | \xe2\x80\x98.*?(?:\xe2\x80\x99|\Z) )
    | (?P<name>    `(?:[^`\\]|\\.|``)*+(?:`|\\?\Z) | "(?:[^"\\]|\\.|"")*+(?:"|\\?\Z)
                 | \xe2\x80\x9c.*?(?:\xe2\x80\x9d|\Z) )
    | (?P<heredoc> \$ )
    | (?P<word>    [A-Za-z0-9_][A-Za-z0-9_$]* )
    | (?P<sign>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
_DOLLAR_WORD = re.compile(rb"\$[A-Za-z0-9_$]*")
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_HEX_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True)
class Token:
    """A word, a quoted name, a quoted text or a single sign, with its place in the statement."""

    kind: str
    value: bytes
    end: int

    @cached_property
    def keyword(self) -> str:
        """The word in upper case, or the sign; empty for what is quoted and so can be no keyword."""
        return self.value.decode("latin-1").upper() if self.kind in ("word", "sign") else ""

    @cached_property
    def identifier(self) -> str:
        """The name that this token writes, quoted or not; empty for other tokens."""
        if self.kind == "word":
            return self.value.decode("latin-1")
        if self.kind != "name":
            return ""
        inner = self.value[3:-3] if self.value.startswith(b"\xe2") else self.value[1:-1]
        return _HEX_ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), inner).decode("latin-1")


END = Token("end", b"", 0)
"""Stands where there is no further token."""


@dataclass(frozen=True)
class InlineData:
    """An INSERT whose rows follow it: what stands before its settings, those, the format, where the rows begin."""

    head: bytes
    settings: bytes
    format: str
    start: int


def _tokens(sql: bytes) -> Iterator[Token]:
    place = 0
    while found := _TOKEN.match(sql, place):
        kind = found.lastgroup or "sign"
        start, place = place, found.end()
        if kind == "comment":
            place = _after_comment(sql, place)
        elif kind == "heredoc":
            kind, place = _dollar(sql, start)
        if kind not in ("space", "comment"):
            yield Token(kind, sql[start:place], place)


def _dollar(sql: bytes, start: int) -> tuple[str, int]:
    """What a dollar sign begins, and where it ends: `$tag$ text $tag$`, else a word.

    A text that is not closed runs to the end, so that many of them cost no more than one.
    """
    tag_end = sql.find(b"$", start + 1) + 1
    if not tag_end:
        found = _DOLLAR_WORD.match(sql, start)
        return "word", found.end() if found else start + 1
    tag = sql[start:tag_end]
    end = sql.find(tag, tag_end)
    return "text", len(sql) if end < 0 else end + len(tag)


def _after_comment(sql: bytes, place: int) -> int:
    """Where a block comment ends; they nest, and an open one runs to the end."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, place):
        depth += 1 if edge[0] == b"/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


def find_inline_data(sql: bytes) -> InlineData | None:
    """Where the rows of an INSERT begin, None if `sql` is no INSERT or has its rows from elsewhere.

    As in ClickHouse, rows begin after `FORMAT name`, the spaces behind it and at most one newline, or
    directly after `VALUES`.
    """
    depth = 0
    previous, format_start = "", 0
    settings_start: int | None = None

    def inline(end: int, format_name: str, rows: int) -> InlineData:
        split = end if settings_start is None else settings_start
        return InlineData(sql[:split], sql[split:end], format_name, rows)

    for token in _tokens(sql):
        start = token.end - len(token.value)
        # What stands behind these is the name of a table, whatever it spells.
        word = (
            ""
            if previous in ("INTO", "TABLE", "FUNCTION", ".") and token.keyword != "TABLE"
            else token.keyword
        )
        if not previous and word != "INSERT":
            return None
        if depth == 0:
            if previous == "FORMAT" and token.kind == "word":
                return inline(format_start, token.identifier, _after_format(sql, token.end))
            if word == "VALUES":
                return inline(start, "Values", token.end)
            if word in ("SELECT", "WITH", "INFILE", ";"):
                return None
            if word == "SETTINGS" and settings_start is None:
                settings_start = start
        format_start = start
        depth += {"(": 1, ")": -1}.get(word, 0)
        previous = word or "name"
    return None


def _after_format(sql: bytes, place: int) -> int:
    found = re.compile(rb"[ \t\f]*\r?\n?").match(sql, place)
    return found.end() if found else place


class Statement:
    """One statement without inline rows, seen as tokens."""

    def __init__(self, sql: bytes) -> None:
        self.sql = sql

    @cached_property
    def tokens(self) -> list[Token]:
        """The tokens, without spaces and comments."""
        return list(_tokens(self.sql))

    @cached_property
    def keywords(self) -> frozenset[str]:
        """Every bare word of the statement in upper case."""
        return frozenset(token.keyword for token in self.tokens if token.kind == "word")

    @property
    def first(self) -> str:
        """The first keyword, looking through opening brackets; empty for an empty statement."""
        return next((token.keyword for token in _tokens(self.sql) if token.keyword != "("), "")

    @property
    def output_format(self) -> str | None:
        """The name in the statement's FORMAT clause, if it has one."""
        for clause, name, after in zip(self.tokens, self.tokens[1:], [*self.tokens[2:], END], strict=False):
            is_clause = clause.keyword == "FORMAT" and name.kind in ("word", "name")
            if is_clause and after.keyword in ("", ";", "SETTINGS", "INTO"):
                return name.identifier
        return None
