"""The production workers as programs: settings from the environment, logs on stderr, an exit code for supervisors.

Each imports its own part only: a meter needs no ClickHouse client.
"""

import gc
import logging
import sys
from importlib.abc import MetaPathFinder
from typing import Any

from tokentide.console.log import log_to_stderr

__all__ = ["run"]

_SINK_FLUSH_SECONDS = 0.05
_SINK_FETCH_SECONDS = 0.1


def run(kind: str) -> None:
    """Run the worker `meter` or `sink` until a signal, and exit with its code. Raises TokentideError."""
    _log_to_stderr()
    sys.meta_path.insert(0, _NoPandas())
    sys.exit(_meter() if kind == "meter" else _sink())


def _meter() -> int:
    from tokentide.streams.meter import run_meter
    from tokentide.streams.settings import MeterSettings

    _keep_what_is_loaded()
    return run_meter(MeterSettings.from_env())


def _sink() -> int:
    from tokentide.sinks import DeadLetters, SinkSettings, migrate, sink_stages
    from tokentide.streams.log import Log
    from tokentide.streams.worker import Worker
    from tokentide.streams.worker_settings import WorkerSettings

    _keep_what_is_loaded()
    settings = SinkSettings.from_env()
    log = Log(settings.kafka)
    migrate(settings.clickhouse)
    stages = sink_stages(
        settings,
        lambda topic, partition: log.committed(settings.sink_id, topic, partition),
        DeadLetters(settings.kafka, settings.topics.rejected),
    )
    worker = WorkerSettings(
        group=settings.sink_id,
        name=settings.worker,
        kafka=settings.kafka,
        work_dir=settings.work_dir,
        session_timeout_seconds=settings.session_timeout_seconds,
        flush_seconds=_SINK_FLUSH_SECONDS,
        fetch_seconds=_SINK_FETCH_SECONDS,
        metrics=settings.metrics,
    )
    return Worker(worker, stages).run()


def _keep_what_is_loaded() -> None:
    """Tell the garbage collector that modules and classes stay: it went through all of them again and again.

    Records come and go by thousands, and none refers to itself: it is called once in many chunks, not thrice in each.
    """
    gc.freeze()
    gc.set_threshold(100_000)


class _NoPandas(MetaPathFinder):
    """Hides pandas, which chDB brings along: pyarrow loads it wherever it is, and neither worker needs it.

    It took a fifth of a second and 45 MB.
    """

    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("workers do without pandas", name=fullname)


def _log_to_stderr() -> None:
    log_to_stderr()
    # It logs an error for each attempt, twenty a second while a broker is away; the outbox says it once a minute.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
