"""`tokentide ...` as it stands in documents, scripts and containers, looked up in the command itself."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer.main
from typer.exceptions import TyperException

from tokentide.console.cli import app

__all__ = ["command_lines", "problem_with"]

_START = re.compile(r"(?:^|[\s`(;&|])tokentide(?= [a-z-])")
_END = re.compile(r"[`\n]| && | \|\|? |;| #| > ")


def command_lines(text: str) -> Iterator[str]:
    """Yield each `tokentide ...` of a text, to its end: of the code span, the line, or the command in a pipe."""
    for match in _START.finditer(text):
        rest = text[match.end() - len("tokentide") :]
        quoted = re.match(r"[^`\n]*?\"[^\"]*\"", rest)
        end = _END.search(rest, quoted.end() if quoted else 0)
        yield rest[: end.start()].strip() if end else rest.strip()


def problem_with(line: str) -> str | None:
    """Return why `tokentide` would refuse the line; None when it would take it. Nothing is run.

    The bare name of a command is taken as its name, though it may lack arguments.
    """
    try:
        _, *arguments = shlex.split(line)
    except ValueError as error:
        return str(error)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if arguments in ([], ["--help"]):
            return None
        name = arguments.pop(0)
        if name not in command.commands:
            return f"there is no command {name}"
        command = command.commands[name]
    if arguments in ([], ["--help"]):
        return None
    try:
        command.make_context(command.name, arguments)
    except TyperException as error:
        return str(error)
    return None
