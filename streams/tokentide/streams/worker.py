"""A worker process: stages on a Faust app, until a signal or the first thing that goes wrong."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import faust
from faust.types import TP

from tokentide.schemas.chunk import Chunk
from tokentide.schemas.gauge import Gauge
from tokentide.streams.faust_app import make_app
from tokentide.streams.lanes import Lanes
from tokentide.streams.log import Log
from tokentide.streams.pace import Pace
from tokentide.streams.stage import Measured, Stage
from tokentide.streams.transport import RawSchema
from tokentide.streams.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from tokentide.streams.metrics import MetricsServer

__all__ = ["CRASHED", "STOPPED_IN_DOUBT", "Worker", "stop_in_doubt"]

STOPPED_IN_DOUBT = 3
"""Exit code: a hole, a failed delivery, an error in a stage. Nothing is lost; a supervisor starts it again."""
CRASHED = 4
"""Exit code: Faust crashed, as on some rebalances, or its group stands still. A supervisor starts it again."""

_LOGGER = logging.getLogger(__name__)
_TICK_SECONDS = 0.1
_RESTLESS_ASSIGNMENTS, _RESTLESS_SECONDS = 5, 60.0
_STOP_SECONDS = 3.0
_SNAPSHOT_SECONDS = 1.0
_LOOK_SECONDS = 0.2


def stop_in_doubt(error: BaseException) -> None:
    """End the process at once, before anything more is published or committed; from any thread."""
    _LOGGER.critical("stopping: %s", error, exc_info=error if not str(error) else None)
    logging.shutdown()
    os._exit(STOPPED_IN_DOUBT)


class Worker:
    """Runs stages; it is what the chunk transport calls Assignments."""

    def __init__(
        self,
        settings: WorkerSettings,
        stages: Sequence[Stage],
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`first` is awaited before the group is joined: what every chunk needs to be known."""
        self.topics: Sequence[str] = [stage.topic for stage in stages]
        self.chunk_records = settings.chunk_records
        self.pace = Pace(settings.flush_seconds, settings.fetch_seconds)
        self._settings = settings
        self._stages = stages
        self._first = first
        self._log = Log(settings.kafka)
        self._lanes = {
            stage.topic: Lanes(stage, self._log, settings.recovery_seconds, stop_in_doubt) for stage in stages
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._is_ready = False
        self._assigned_at: deque[float] = deque(maxlen=_RESTLESS_ASSIGNMENTS)
        self._joining_since: float | None = None

    def run(self) -> int:
        """Work until SIGTERM or SIGINT; return the exit code. Prints `ready` once its partitions are recovered.

        Raises SettingsError for a metrics port that is taken.
        """
        return asyncio.run(self._run())

    def assigned(self, partitions: set[TP], generation: int) -> None:
        """Recover these partitions."""
        self._joining_since = None
        self._assigned_at.append(time.monotonic())
        if (
            len(self._assigned_at) == _RESTLESS_ASSIGNMENTS
            and self._assigned_at[-1] - self._assigned_at[0] < _RESTLESS_SECONDS
        ):
            _LOGGER.warning(
                "%s was given partitions %d times within a minute; if another worker runs under this name, give each "
                "its own with TOKENTIDE_WORKER",
                self._settings.name,
                _RESTLESS_ASSIGNMENTS,
            )
            self._assigned_at.clear()
        for topic, lanes in self._lanes.items():
            lanes.assign({tp.partition for tp in partitions if tp.topic == topic}, generation)
        self._spawn(self._announce(len(partitions)))

    async def revoked(self, partitions: set[TP]) -> None:
        """Make everything durable, but wait for it no longer than the group does."""
        self._joining_since = time.monotonic()
        patience = self._settings.session_timeout_seconds / 3
        try:
            async with asyncio.timeout(patience):
                await self._drain()
        except TimeoutError:
            _LOGGER.warning(
                "%s gives its partitions up before all is flushed: Kafka did not take it within %.1f s; the next "
                "owner does again what is missing",
                self._settings.name,
                patience,
            )

    def committable(self) -> dict[TP, int]:
        """Return what is durable."""
        return {
            TP(topic, partition): offset
            for topic, lanes in self._lanes.items()
            for partition, offset in lanes.committable.items()
        }

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = self._metrics_server()
        if self._first is not None:
            await self._first()
        app = make_app(self._settings, self)
        if server is not None:
            self._spawn(self._keep_showing(server, app))
        for lanes in self._lanes.values():
            self._add_agent(app, lanes)
            self._spawn(self._keep_flushing(lanes))
        self._joining_since = time.monotonic()
        starting = asyncio.create_task(app.start())
        code = await self._until_over(stop, app, starting)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                if code == 0:
                    await self._drain()
                    await app.consumer.commit()
                await app.stop()
        # Faust's and aiokafka's threads may hang on a broker that is gone; everything durable is done.
        logging.shutdown()
        os._exit(code)

    async def _until_over(self, stop: asyncio.Event, app: faust.App, starting: "asyncio.Task[Any]") -> int:
        """Return the exit code of what comes first: the wish to stop, or a reason to start again."""
        while not stop.is_set():
            if reason := self._standstill(app, starting):
                _LOGGER.critical("stopping: %s", reason)
                return CRASHED
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await stop.wait()
        return 0

    def _standstill(self, app: faust.App, starting: "asyncio.Task[Any]") -> str | None:
        """Return why this worker gets no more work; None while it may."""
        group = self._settings.group
        consumer: Any = app.consumer
        if (error := consumer.group_error()) is not None:
            return f"the group {group} cannot be joined: {error!r}"
        if starting.done() and (error := starting.exception()) is not None:
            return f"Faust did not start: {error!r}"
        if app.should_stop:
            return f"Faust crashed: {app.crash_reason!r}"
        patience = self._settings.join_seconds
        if self._joining_since is not None and time.monotonic() - self._joining_since > patience:
            return f"the group {group} gave out no partitions for {patience:.0f} seconds"
        return None

    def _add_agent(self, app: faust.App, lanes: Lanes) -> None:
        topic = app.topic(lanes.stage.topic, schema=RawSchema(key_serializer="raw", value_serializer="raw"))

        @app.agent(topic, name=type(lanes.stage).__name__ + "." + lanes.stage.topic, concurrency=1)
        async def agent(stream: Any) -> None:
            async for event in stream.events():
                chunk: Chunk = event.value
                try:
                    await lanes.take(chunk, event.message.generation_id)
                except Exception as error:
                    # Raised further, Faust would ack the chunk and go on with the next.
                    stop_in_doubt(error)
                await asyncio.sleep(0)

    async def _keep_flushing(self, lanes: Lanes) -> None:
        """Flush at once in quiet times, else on a short clock; and look after clocks of the stage's own."""
        pace = Pace(self._settings.flush_seconds)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await lanes.has_work.wait()
            lanes.has_work.clear()
            pace.begin()
            try:
                await lanes.flush()
            except Exception as error:
                stop_in_doubt(error)
            await asyncio.sleep(pace.pause())

    def _metrics_server(self) -> "MetricsServer | None":
        """Listen before the group is joined: a port that is taken must not cost the others a rebalance."""
        settings = self._settings.metrics
        if not settings.port:
            return None
        from tokentide.streams.metrics import MetricsServer

        server = MetricsServer(settings)
        _LOGGER.info("%s serves http://%s:%d/metrics", self._settings.name, settings.host, settings.port)
        return server

    async def _keep_showing(self, server: "MetricsServer", app: faust.App) -> None:
        """Take a snapshot each second."""
        was_said = False
        while True:
            try:
                server.show(self._gauges(app.consumer))
            except Exception:
                # A number that cannot be read stops no metering; the snapshot's own time tells that it is old.
                if not was_said:
                    _LOGGER.exception("the metrics cannot be read now; the last ones stay")
                was_said = True
            await asyncio.sleep(_SNAPSHOT_SECONDS)

    def _gauges(self, consumer: Any) -> Iterator[Gauge]:
        yield Gauge("tokentide_snapshot_timestamp_seconds", {}, time.time())
        for topic, lanes in self._lanes.items():
            yield from lanes.gauges(partial(_end_offset, consumer, topic))
        for stage in self._stages:
            if isinstance(stage, Measured):
                yield from stage.gauges()

    async def _drain(self) -> None:
        """Flush everything. Who gives up waiting does not cut the flush off: it has taken changes out of the state.

        Cut off before the changelog had them, they would be missing below the fence of the next flush.
        """
        await asyncio.shield(self._spawn(self._flush_all()))

    async def _flush_all(self) -> None:
        await asyncio.gather(*(lanes.flush(everything=True) for lanes in self._lanes.values()))

    async def _announce(self, partitions: int) -> None:
        for lanes in self._lanes.values():
            await lanes.opened()
        _LOGGER.info("%s owns %d partitions", self._settings.name, partitions)
        if not self._is_ready:
            self._is_ready = True
            print(f"ready {self._settings.name} with {partitions} partitions", flush=True)

    def _spawn(self, work: Awaitable[None]) -> "asyncio.Task[None]":
        """Have the work done beside all else; an error in it ends the process."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                stop_in_doubt(error)

        self._tasks = [task for task in self._tasks if not task.done()]
        task = asyncio.create_task(guarded())
        self._tasks.append(task)
        return task


def _end_offset(consumer: Any, topic: str, partition: int) -> int | None:
    end: int | None = consumer.end_offset(TP(topic, partition))
    return end
