"""Rows as a table for people: as wide as the terminal, or as wide as it needs in a file or a pipe."""

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_table"]

# Where nobody looks at lines, nothing is folded: `| grep` finds whole names.
_UNFOLDED = 100_000


def print_table(names: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> None:
    """Print the rows under the names; the columns with these indexes (from 0) hold numbers."""
    table = Table()
    for index, name in enumerate(names):
        table.add_column(Text(name), justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_UNFOLDED)
    console.print(table)
