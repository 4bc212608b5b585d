"""A worker process: stages on a Faust app, until a signal or the first thing that goes wrong."""

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import yarl
from faust.types import TP

from tokentide.schemas import KafkaSettings, SettingsError
from tokentide.schemas.chunk import Chunk
from tokentide.schemas.gauge import Gauge, MetricsSettings
from tokentide.streams.lanes import Lanes
from tokentide.streams.log import Log
from tokentide.streams.stage import Measured, Stage
from tokentide.streams.transport import ChunkTransport, RawSchema, SafeFlow

if TYPE_CHECKING:
    from tokentide.streams.metrics import MetricsServer

__all__ = ["CRASHED", "STOPPED_IN_DOUBT", "Worker", "WorkerSettings", "stop_in_doubt"]

STOPPED_IN_DOUBT = 3
"""Exit code: a hole, a failed delivery, an error in a stage. Nothing is lost; a supervisor starts it again."""
CRASHED = 4
"""Exit code: Faust itself crashed, as it does on some rebalances. A supervisor starts it again."""

_LOGGER = logging.getLogger(__name__)
_TICK_SECONDS = 0.1
_RESTLESS_ASSIGNMENTS, _RESTLESS_SECONDS = 5, 60.0
_STOP_SECONDS = 3.0
_SNAPSHOT_SECONDS = 1.0


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs besides its stages."""

    group: str
    """Consumer group and Faust app id."""
    name: str
    """Static group membership: unique in the group, the same after a restart, so no partition waits."""
    kafka: KafkaSettings
    work_dir: Path
    session_timeout_seconds: float
    flush_seconds: float
    recovery_seconds: float = 300.0
    chunk_records: int = 2000
    metrics: MetricsSettings = field(default_factory=MetricsSettings)


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
        self.chunk_records = settings.chunk_records
        self._settings = settings
        self._stages = stages
        self._first = first
        self._log = Log(settings.kafka)
        self._lanes: dict[str, Lanes] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._is_ready = False
        self._assigned_at: deque[float] = deque(maxlen=_RESTLESS_ASSIGNMENTS)

    def run(self) -> int:
        """Work until SIGTERM or SIGINT; return the exit code. Prints `ready` once its partitions are recovered.

        Raises SettingsError for a metrics port that is taken.
        """
        return asyncio.run(self._run())

    def assigned(self, partitions: set[TP], generation: int) -> None:
        """Recover these partitions."""
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
        """Make everything durable, but not for longer than the group waits."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.session_timeout_seconds / 3):
                await self._drain()

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
        for stage in self._stages:
            self._lanes[stage.topic] = Lanes(stage, self._log, self._settings.recovery_seconds, stop_in_doubt)
        server = self._metrics_server()
        if self._first is not None:
            await self._first()
        app = self._app()
        if server is not None:
            self._spawn(self._keep_showing(server, app))
        for lanes in self._lanes.values():
            self._add_agent(app, lanes)
            self._spawn(self._keep_flushing(lanes))
        await app.start()
        code = await _first(stop, app)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                if code == 0:
                    await self._drain()
                    await app.consumer.commit()
                await app.stop()
        # Faust's and aiokafka's threads may hang on a broker that is gone; everything durable is done.
        logging.shutdown()
        os._exit(code)

    def _app(self) -> faust.App:
        settings = self._settings
        settings.work_dir.mkdir(parents=True, exist_ok=True)
        session = settings.session_timeout_seconds
        urls = [yarl.URL(f"kafka://{address.strip()}") for address in settings.kafka.broker.split(",")]
        app = faust.App(
            settings.group,
            broker=urls,
            broker_credentials=_credentials(settings.kafka),
            broker_session_timeout=session,
            broker_heartbeat_interval=session / 10,
            broker_request_timeout=max(40.0, session * 1.5),
            broker_rebalance_timeout=session,
            broker_commit_interval=0.5,
            broker_max_poll_records=settings.chunk_records * 2,
            consumer_auto_offset_reset="earliest",
            # A leader that moved while a partition without a commit was opened is asked again only when it is known:
            # aiokafka refreshes no metadata then, and all that is fetched from that node waits.
            consumer_metadata_max_age_ms=5000,
            consumer_group_instance_id=settings.name,
            consumer_max_fetch_size=2 * 1024 * 1024,
            stream_buffer_maxsize=4,
            stream_recovery_delay=0.0,
            stream_wait_empty=False,
            store="memory://",
            datadir=str(settings.work_dir / "faust"),
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            loop=asyncio.get_running_loop(),
        )
        app.transport = ChunkTransport(urls, app, loop=app.loop, assignments=self)
        # A cached property of the app, which has no other way in; before any topic is declared.
        app.__dict__["flow_control"] = SafeFlow(loop=app.loop)
        return app

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
        """Flush at once after a quiet time, else on a short clock; and look after clocks of the stage's own."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await lanes.has_work.wait()
            lanes.has_work.clear()
            started = time.monotonic()
            try:
                await lanes.flush()
            except Exception as error:
                stop_in_doubt(error)
            await asyncio.sleep(max(0.0, self._settings.flush_seconds - (time.monotonic() - started)))

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
        await asyncio.gather(*(lanes.flush(everything=True) for lanes in self._lanes.values()))

    async def _announce(self, partitions: int) -> None:
        for lanes in self._lanes.values():
            await lanes.opened()
        _LOGGER.info("%s owns %d partitions", self._settings.name, partitions)
        if not self._is_ready:
            self._is_ready = True
            print(f"ready {self._settings.name} with {partitions} partitions", flush=True)

    def _spawn(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                stop_in_doubt(error)

        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(guarded()))


def _end_offset(consumer: Any, topic: str, partition: int) -> int | None:
    end: int | None = consumer.end_offset(TP(topic, partition))
    return end


async def _first(stop: asyncio.Event, app: faust.App) -> int:
    """Return the exit code of what comes first: the wish to stop, or a crash of Faust."""
    while not stop.is_set():
        if app.should_stop:
            _LOGGER.critical("stopping: Faust crashed: %r", app.crash_reason)
            return CRASHED
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await stop.wait()
    return 0


def _credentials(kafka: KafkaSettings) -> Any:
    """Return the credentials as Faust wants them; raises SettingsError for a protocol that Kafka does not have."""
    protocol = kafka.security_protocol
    if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
        raise SettingsError(
            f"TOKENTIDE_KAFKA_SECURITY_PROTOCOL={protocol} must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
        )
    context = ssl.create_default_context(cafile=kafka.ssl_ca_location) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            mechanism=kafka.sasl_mechanism or "PLAIN",
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None
