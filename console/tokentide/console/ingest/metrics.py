"""What the door tells about itself at /metrics."""

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    generate_latest,
)

__all__ = ["INGEST_METRICS", "IngestMetrics"]

INGEST_METRICS: Mapping[str, str] = {
    "tokentide_ingest_requests_total": "Answers to POST /v1/usage, by client and status.",
    "tokentide_ingest_events_total": (
        "Events by client and outcome: stored, refused, or unsure when Kafka did not say in time."
    ),
    "tokentide_ingest_request_seconds": "Time from the first byte of a request to its answer.",
    "tokentide_ingest_in_flight_bytes": "Bodies that are not answered yet, together.",
}
"""Every metric of ours with its help text; docs/ingest.md has them too."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)


class IngestMetrics:
    """The counts of one door."""

    def __init__(self, bytes_in_flight: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        help_of = dict(INGEST_METRICS)
        name = "tokentide_ingest_requests_total"
        self._requests = Counter(name, help_of[name], ["client", "status"], registry=self._registry)
        name = "tokentide_ingest_events_total"
        self._events = Counter(name, help_of[name], ["client", "outcome"], registry=self._registry)
        name = "tokentide_ingest_request_seconds"
        self._seconds = Histogram(name, help_of[name], buckets=_SECONDS, registry=self._registry)
        name = "tokentide_ingest_in_flight_bytes"
        Gauge(name, help_of[name], registry=self._registry).set_function(bytes_in_flight)

    def count_request(self, client: str, status: int, seconds: float) -> None:
        """Count an answer; `client` is empty when nobody was recognised."""
        self._requests.labels(client, str(status)).inc()
        self._seconds.observe(seconds)

    def count_events(self, client: str, outcome: str, events: int) -> None:
        """Count what became of so many events: `stored`, `refused` or `unsure`."""
        if events:
            self._events.labels(client, outcome).inc(events)

    def text(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self._registry)
