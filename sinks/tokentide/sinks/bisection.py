"""Finding the rows of a batch that ClickHouse refuses, by halves, and storing all others."""

from collections.abc import Callable

import pyarrow as pa

from tokentide.schemas import StorageRefusedError
from tokentide.sinks.failures import RowRefusedError

__all__ = ["MOST_REFUSED", "store_in_parts"]

MOST_REFUSED = 100
"""Of one batch. More are no poison rows in a good batch: something is wrong with the table."""


def store_in_parts(
    insert: Callable[[pa.Table, str], None], rows: pa.Table, token: str, most: int = MOST_REFUSED
) -> list[tuple[int, str]]:
    """Insert the rows, without those that are refused; return the index and the reason of each of these.

    `insert` takes rows and their deduplication token, and raises RowRefusedError for the sake of a row. The token
    of a part names the batch's and the rows, so a batch that is tried again after a crash makes the same parts
    with the same tokens; with other borders the tables' keys make its rows one.
    Raises StorageRefusedError when more than `most` rows are refused, and what else `insert` raises; some rows
    are stored then.
    """
    refused: list[tuple[int, str]] = []
    waiting = [(0, rows.num_rows)]
    while waiting:
        first, end = waiting.pop()
        is_whole = end - first == rows.num_rows
        try:
            insert(
                rows if is_whole else rows.slice(first, end - first),
                token if is_whole else f"{token}/rows:{first}-{end - 1}",
            )
        except RowRefusedError as error:
            if end - first > 1:
                middle = (first + end) // 2
                waiting += [(middle, end), (first, middle)]  # the first half comes next
                continue
            refused.append((first, error.reason))
            if len(refused) > most:
                raise StorageRefusedError(
                    f"{error}; more than {most} rows of one batch are refused, so the table is wrong and not the "
                    "rows: take away the constraint, column type or view that refuses them, and start again"
                ) from error
    return refused
