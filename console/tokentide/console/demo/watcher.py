"""Looks at Kafka and ClickHouse while a demo runs, from a thread of its own."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from decimal import Decimal
from types import TracebackType
from typing import Self

from clickhouse_connect.driver import Client

from tokentide.console.demo.view import Snapshot
from tokentide.console.lag import LagReader
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import TokentideError
from tokentide.sinks.clients import connect, translated

__all__ = ["Watcher"]

_LOOK_SECONDS = 0.7
_END_SECONDS = 2.0
_SO_FAR = """
SELECT
    (SELECT count() FROM usage),
    (SELECT ifNull(sum(t.cost_usd), 0) FROM spend_by_model AS t WHERE t.period = 'month'),
    (SELECT count() FROM alerts)
"""


class Watcher:
    """Calls `on_look` with a new Snapshot, about once a second, between the ends of its `with` block.

    A look that fails is left out: the numbers are for people, and the demo itself notices what is wrong.
    """

    def __init__(self, settings: ConsoleSettings, total: int, on_look: Callable[[Snapshot], None]) -> None:
        self._settings = settings
        self._on_look = on_look
        self._snapshot = Snapshot(total)
        self._published = 0
        self._seen_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-watcher", daemon=True)

    def note_published(self, events: int) -> None:
        """Remember how many events were published so far."""
        self._published = events

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with ExitStack() as stack:
                    reader = stack.enter_context(LagReader(self._settings))
                    with translated(self._settings.clickhouse, "answer"):
                        client = stack.enter_context(closing(connect(self._settings.clickhouse)))
                    while True:
                        self._look(reader, client)
                        if self._ended.wait(_LOOK_SECONDS):
                            return
            except TokentideError:
                self._ended.wait(_LOOK_SECONDS)

    def _look(self, reader: LagReader, client: Client) -> None:
        behind = sum(reader.read().values())
        with translated(self._settings.clickhouse, "answer"):
            landed, spend, alerts = client.query(_SO_FAR).result_rows[0]
        now = time.monotonic()
        rate = (landed - self._snapshot.landed) / max(now - self._seen_at, 1e-3)
        self._seen_at = now
        self._snapshot = replace(
            self._snapshot,
            published=self._published,
            landed=landed,
            landed_per_second=max(0.0, rate),
            behind=behind,
            spend_usd=Decimal(spend),
            alerts=alerts,
        )
        if not self._ended.is_set():
            self._on_look(self._snapshot)
