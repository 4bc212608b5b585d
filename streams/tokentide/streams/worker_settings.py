"""What a worker needs besides its stages."""

from dataclasses import dataclass, field
from pathlib import Path

from tokentide.schemas import KafkaSettings
from tokentide.schemas.gauge import MetricsSettings

__all__ = ["WorkerSettings"]


@dataclass(frozen=True)
class WorkerSettings:
    """Where a worker belongs, and how patient it is."""

    group: str
    """Consumer group and Faust app id."""
    name: str
    """Static group membership: unique in the group, the same after a restart, so no partition waits."""
    kafka: KafkaSettings
    work_dir: Path
    session_timeout_seconds: float
    flush_seconds: float
    fetch_seconds: float = 0.0
    """Fetches are at least so far apart: larger ones cost less a record, where nobody waits for each."""
    recovery_seconds: float = 300.0
    chunk_records: int = 2000
    metrics: MetricsSettings = field(default_factory=MetricsSettings)

    @property
    def join_seconds(self) -> float:
        """How long the group may take to give out its partitions: it waits for a member that is frozen, twice."""
        return max(60.0, 4 * self.session_timeout_seconds)
