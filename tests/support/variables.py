"""Which `TOKENTIDE_*` environment variables the code reads."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from tokentide.console.settings import ConsoleSettings
from tokentide.producers import ProducerSettings

__all__ = ["ROOT", "variables_in_code"]

ROOT = Path(__file__).parent.parent.parent
ROOTS = ("schemas", "producers", "streams", "sinks", "console")
_NAME = re.compile(r"TOKENTIDE_[A-Z0-9_]*[A-Z0-9]")
_PREFIX = re.compile(r"TOKENTIDE_[A-Z0-9_]*_")


class _Asked(Mapping[str, str]):
    """An empty environment that remembers what was looked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@cache
def variables_in_code() -> frozenset[str]:
    """Return every name that stands whole in the source, and those that settings put together while they read.

    A name that is put together elsewhere raises AssertionError: teach this function to find it.
    """
    written, prefixes = set[str](), set[str]()
    for root in ROOTS:
        for path in (ROOT / root).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    prefixes.update(filter(_PREFIX.fullmatch, _texts(node.values[:1])))
                else:
                    written.update(filter(_NAME.fullmatch, _texts([node])))
    asked = _Asked()
    ProducerSettings.from_env(asked)
    ConsoleSettings.from_env(asked)
    for prefix in prefixes:
        assert any(name.startswith(prefix) for name in asked.names), f"who reads {prefix}...?"
    return frozenset(written | asked.names)


def _texts(nodes: Iterable[ast.AST]) -> Iterator[str]:
    return (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
