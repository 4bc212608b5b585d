"""The settings of the meter."""

from dataclasses import dataclass, field
from pathlib import Path

from tokentide.schemas import Environment, KafkaSettings, SettingsError, TopicNames
from tokentide.schemas.gauge import MetricsSettings

__all__ = ["MeterSettings"]


@dataclass(frozen=True)
class MeterSettings:
    """What a meter worker needs to know."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topics: TopicNames = field(default_factory=TopicNames)
    meter_id: str = "tokentide-meter"
    """Consumer group, and the first part of the names of the changelog topics."""
    worker: str = "meter-1"
    """Name of this worker, for static group membership: unique among the workers of the group."""
    work_dir: Path = Path(".tokentide")
    """Where Faust may write, and event ids are kept; what is lost there is read from Kafka again."""
    session_timeout_seconds: float = 30.0
    """After so long without a heartbeat a worker has lost its partitions."""
    flush_seconds: float = 0.2
    """Totals and alerts leave at most so often, at once when the last flush is longer ago."""
    max_future_seconds: int = 3600
    """An event further ahead of its Kafka record is rejected."""
    dedupe_days: int = 7
    """How long event ids are remembered, by the time their record was produced."""
    day_grace_days: int = 7
    """How long after its end an hour or a day stays open for late events; later ones count as adjustments."""
    month_grace_days: int = 35
    """The same for months; at least `day_grace_days`."""
    watermark_delay_seconds: float = 60.0
    """How far events may be out of order: so much behind the newest event totals are said to be complete."""
    chunk_records: int = 2000
    recovery_seconds: float = 300.0
    """A worker that has not recovered its state after so long exits."""
    metrics: MetricsSettings = field(default_factory=MetricsSettings)

    @classmethod
    def from_env(cls) -> "MeterSettings":
        """Read `TOKENTIDE_*`; raises SettingsError that names every problem."""
        environment = Environment()
        settings = cls(
            kafka=KafkaSettings.read(environment),
            topics=TopicNames.read(environment),
            meter_id=environment.text("TOKENTIDE_METER_ID", cls.meter_id),
            worker=environment.text("TOKENTIDE_WORKER", cls.worker),
            work_dir=Path(environment.text("TOKENTIDE_WORK_DIR", str(cls.work_dir))),
            session_timeout_seconds=environment.number(
                "TOKENTIDE_SESSION_TIMEOUT_SECONDS", cls.session_timeout_seconds, least=1.0
            ),
            flush_seconds=environment.number("TOKENTIDE_FLUSH_SECONDS", cls.flush_seconds),
            max_future_seconds=environment.whole("TOKENTIDE_MAX_FUTURE_SECONDS", cls.max_future_seconds),
            dedupe_days=environment.whole("TOKENTIDE_DEDUPE_DAYS", cls.dedupe_days, least=1),
            day_grace_days=environment.whole("TOKENTIDE_DAY_GRACE_DAYS", cls.day_grace_days),
            month_grace_days=environment.whole("TOKENTIDE_MONTH_GRACE_DAYS", cls.month_grace_days),
            watermark_delay_seconds=environment.number(
                "TOKENTIDE_WATERMARK_DELAY_SECONDS", cls.watermark_delay_seconds
            ),
            chunk_records=environment.whole("TOKENTIDE_CHUNK_RECORDS", cls.chunk_records, least=1),
            recovery_seconds=environment.number(
                "TOKENTIDE_RECOVERY_SECONDS", cls.recovery_seconds, least=1.0
            ),
            metrics=MetricsSettings.read(environment),
        )
        environment.check()
        if settings.month_grace_days < settings.day_grace_days:
            raise SettingsError(
                f"TOKENTIDE_MONTH_GRACE_DAYS={settings.month_grace_days} is less than TOKENTIDE_DAY_GRACE_DAYS="
                f"{settings.day_grace_days}: a month cannot close before its days, make it at least as large"
            )
        return settings
