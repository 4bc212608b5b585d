"""The metrics of a worker: all their names, and the server that Prometheus scrapes."""

from collections.abc import Iterable, Iterator, Mapping

from tokentide.schemas import SettingsError
from tokentide.schemas.gauge import Gauge, MetricsSettings

try:
    from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError(
        f"A worker's metrics need prometheus-client ({error}): pip install 'tokentide[pipeline]'"
    ) from error

__all__ = ["METRICS", "MetricsServer"]

METRICS: Mapping[str, str] = {
    # Of every worker.
    "tokentide_snapshot_timestamp_seconds": "When these numbers were read, as Unix time.",
    "tokentide_partitions": "Partitions of the topic that this worker owns.",
    "tokentide_partitions_recovering": "Partitions of the topic whose state is being read back.",
    "tokentide_position": "Offset of the next record that the stage takes.",
    "tokentide_committable": "Offset up to which, exclusive, everything is durable.",
    "tokentide_end_offset": "Offset behind the last record of the partition, as the last fetch saw it.",
    "tokentide_consumer_lag": "Records between position and end offset.",
    "tokentide_records_taken_total": "Records that the stage has taken.",
    "tokentide_flushes_total": "Flushes that made something durable.",
    "tokentide_flush_seconds_total": "Seconds that these flushes took.",
    "tokentide_delay_seconds": (
        "The longest time, of what became durable since the last snapshot, from a record's timestamp in Kafka until "
        "then; 0 when nothing did."
    ),
    "tokentide_flush_running_seconds": "Seconds since the flush on its way began, 0 when none is.",
    # Of the meter.
    "tokentide_seen_ids": "Event ids that are remembered, by where: memory or disk.",
    "tokentide_seen_files": "Files of event ids on disk.",
    "tokentide_duplicates_total": "Events that were dropped as repeats.",
    "tokentide_rejected_total": "Records that were refused.",
    "tokentide_state_records": "Records of the stage's state by kind, day or month; its changelog holds them too.",
    "tokentide_state_entities": "Entities in the stage's state.",
    "tokentide_state_cells": "Partial totals in the stage's state.",
    "tokentide_state_fired": "Alerts that are remembered as raised.",
    "tokentide_complete_up_to_seconds": "Event time up to which totals are complete, as Unix time.",
    # Of the sink.
    "tokentide_rows_gathered": "Rows that wait for the next insert.",
    "tokentide_rows_on_the_way": "Rows of the insert that ClickHouse has not acknowledged yet.",
    "tokentide_rows_stored_total": "Rows that ClickHouse has acknowledged.",
    "tokentide_rows_refused_total": "Rows that ClickHouse refused; they went to the topic of rejected records.",
}
"""Every metric of ours with its help text; docs/metrics.md says what to alert on."""


class MetricsServer(Collector):
    """Serves the last snapshot at /metrics, from threads of its own: a scrape never waits for the event loop."""

    def __init__(self, settings: MetricsSettings) -> None:
        """Listen. Raises SettingsError for a port or an address that cannot be used."""
        self._snapshot: tuple[Gauge, ...] = ()
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(self)
        try:
            start_http_server(settings.port, settings.host, registry)
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"Metrics cannot be served at {settings.host}:{settings.port} ({error}); stop what listens there, or "
                "set TOKENTIDE_METRICS_PORT and TOKENTIDE_METRICS_HOST to what is free, each worker its own."
            ) from error

    def show(self, gauges: Iterable[Gauge]) -> None:
        """Serve these from now on. A name that is not in METRICS raises KeyError."""
        snapshot = tuple(gauges)
        for name, _, _ in snapshot:
            METRICS[name]
        self._snapshot = snapshot

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield one family a name; Prometheus' own interface."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, labels, value in self._snapshot:
            if name not in families:
                family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                families[name] = family(name, METRICS[name])
            families[name].add_sample(name, dict(labels), value)
        yield from families.values()
