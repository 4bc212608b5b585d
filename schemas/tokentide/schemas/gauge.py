"""A number that a part of a worker tells about itself, and where the worker offers all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tokentide.schemas.environment import Environment

__all__ = ["Gauge", "MetricsSettings"]


class Gauge(NamedTuple):
    """One sample of a metric; docs/metrics.md has every name with its unit. A name in `_total` only grows."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class MetricsSettings:
    """Where a worker serves /metrics."""

    port: int = 0
    """0 serves nothing."""
    host: str = "127.0.0.1"

    @classmethod
    def read(cls, environment: Environment) -> "MetricsSettings":
        """Read `TOKENTIDE_METRICS_*`."""
        return cls(
            port=environment.whole("TOKENTIDE_METRICS_PORT", cls.port),
            host=environment.text("TOKENTIDE_METRICS_HOST", cls.host),
        )
