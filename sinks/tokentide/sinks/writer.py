"""Inserting into ClickHouse so that every row lands once, whatever is lost on the way."""

import logging
import random
import threading
import time
from collections.abc import Callable

import pyarrow as pa

from tokentide.schemas import ServiceUnavailableError
from tokentide.schemas.columns import write_chunk
from tokentide.sinks.clients import Clients, translated
from tokentide.sinks.settings import ClickHouseSettings

__all__ = ["ClickHouseWriter"]

_LOGGER = logging.getLogger(__name__)
_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 10.0


class ClickHouseWriter:
    """Inserts Arrow tables; safe to use from many threads, each of which gets a client of its own.

    The arguments after the settings are for tests: how to wait for `stop`, and a random number in a range.
    """

    def __init__(
        self,
        settings: ClickHouseSettings,
        *,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
        uniform: Callable[[float, float], float] = random.uniform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clients = Clients(settings)
        self._wait = wait
        self._uniform = uniform
        self._clock = clock

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert the rows, unless an insert with this token landed before; blocks until they are stored.

        Raises ServiceUnavailableError: all, some or none may be stored, and the same rows with the same token
        make that whole. Raises StorageRefusedError: they never will be.
        """
        with translated(self._settings, f"insert into {table}"):
            self._clients.client().raw_insert(
                table,
                column_names=rows.column_names,
                # As one record batch, so that ClickHouse makes one block, which the token then covers.
                insert_block=write_chunk(rows.combine_chunks()),
                fmt="ArrowStream",
                settings={
                    "insert_deduplication_token": token,
                    "insert_deduplicate": 1,
                    "async_insert": 0,
                    "wait_end_of_query": 1,
                    # A batch of back-dated events may touch more months than the default of 100.
                    "max_partitions_per_insert_block": 0,
                },
            )

    def insert_with_retry(self, table: str, rows: pa.Table, token: str, stop: threading.Event) -> None:
        """Insert the identical rows and token again until they are stored; blocks as long as that takes.

        Raises StorageRefusedError at once, and the last ServiceUnavailableError once `stop` is set: then the
        caller must not commit.
        """
        since, attempts = self._clock(), 0
        while True:
            try:
                self.insert(table, rows, token)
            except ServiceUnavailableError as error:
                delay = self._delay(attempts)
                attempts += 1
                _LOGGER.warning("%s; insert %s is tried again in %.1f s", error, token, delay)
                if self._wait(stop, delay):
                    raise
            else:
                if attempts:
                    _LOGGER.info("insert %s is stored after %.1f s", token, self._clock() - since)
                return

    def _delay(self, attempts: int) -> float:
        """Doubles up to the longest; the random half keeps workers from coming back in step."""
        delay = min(_FIRST_DELAY_SECONDS * 2.0 ** min(attempts, 30), _LONGEST_DELAY_SECONDS)
        return self._uniform(delay / 2, delay)
