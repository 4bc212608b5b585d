"""The settings of the sink: how to reach Kafka and ClickHouse, and how large an insert may grow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tokentide.schemas import Environment, KafkaSettings, SettingsError, TopicNames
from tokentide.schemas.gauge import MetricsSettings

__all__ = ["BatchSettings", "ClickHouseSettings", "SinkSettings"]


@dataclass(frozen=True)
class ClickHouseSettings:
    """Address and credentials of a ClickHouse server, over HTTP.

    Raises SettingsError for a URL that is not http(s)://host[:port][/path].
    """

    url: str = "http://127.0.0.1:8123"
    user: str = "default"
    password: str = ""
    database: str = "tokentide"
    connect_timeout_seconds: int = 5
    answer_timeout_seconds: int = 120

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            well_formed = False
        if not well_formed:
            raise SettingsError(
                "TOKENTIDE_CLICKHOUSE_URL must look like http://127.0.0.1:8123 or https://host:8443"
            )
        if parts.username is not None or parts.password is not None:
            raise SettingsError(
                "TOKENTIDE_CLICKHOUSE_URL must hold no user or password, for it is shown in messages: "
                "set TOKENTIDE_CLICKHOUSE_USER and TOKENTIDE_CLICKHOUSE_PASSWORD"
            )

    @classmethod
    def read(cls, environment: Environment) -> "ClickHouseSettings":
        """Read `TOKENTIDE_CLICKHOUSE_*`."""
        return cls(
            url=environment.text("TOKENTIDE_CLICKHOUSE_URL", cls.url),
            user=environment.text("TOKENTIDE_CLICKHOUSE_USER", cls.user),
            password=environment.text("TOKENTIDE_CLICKHOUSE_PASSWORD", cls.password),
            database=environment.text("TOKENTIDE_CLICKHOUSE_DATABASE", cls.database),
            connect_timeout_seconds=environment.whole(
                "TOKENTIDE_CLICKHOUSE_CONNECT_TIMEOUT_SECONDS", cls.connect_timeout_seconds, least=1
            ),
            answer_timeout_seconds=environment.whole(
                "TOKENTIDE_CLICKHOUSE_ANSWER_TIMEOUT_SECONDS", cls.answer_timeout_seconds, least=1
            ),
        )


@dataclass(frozen=True)
class BatchSettings:
    """When a batch is inserted: at `rows` rows or `bytes` bytes of records, or `seconds` after its first record."""

    rows: int = 10_000
    bytes: int = 32 * 1024 * 1024
    """Ten thousand refused records may be a megabyte each."""
    seconds: float = 1.0

    @classmethod
    def read(cls, environment: Environment) -> "BatchSettings":
        """Read `TOKENTIDE_SINK_BATCH_*`."""
        return cls(
            rows=environment.whole("TOKENTIDE_SINK_BATCH_ROWS", cls.rows, least=1),
            bytes=environment.whole("TOKENTIDE_SINK_BATCH_BYTES", cls.bytes, least=1),
            seconds=environment.number("TOKENTIDE_SINK_BATCH_SECONDS", cls.seconds),
        )


@dataclass(frozen=True)
class SinkSettings:
    """What a sink worker needs to know."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topics: TopicNames = field(default_factory=TopicNames)
    clickhouse: ClickHouseSettings = field(default_factory=ClickHouseSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    sink_id: str = "tokentide-sink"
    """Consumer group."""
    worker: str = "sink-1"
    """Name of this worker, for static group membership: unique among the workers of the group."""
    work_dir: Path = Path(".tokentide")
    """Where Faust may write; no state of worth is kept there."""
    session_timeout_seconds: float = 30.0
    """After so long without a heartbeat a worker has lost its partitions."""
    metrics: MetricsSettings = field(default_factory=MetricsSettings)

    @classmethod
    def from_env(cls, variables: Mapping[str, str] | None = None) -> "SinkSettings":
        """Read `TOKENTIDE_*`; raises SettingsError that names every problem."""
        environment = Environment(variables)
        problems = []
        clickhouse = ClickHouseSettings()
        try:
            clickhouse = ClickHouseSettings.read(environment)
        except SettingsError as error:
            problems.append(str(error))
        settings = cls(
            kafka=KafkaSettings.read(environment),
            topics=TopicNames.read(environment),
            clickhouse=clickhouse,
            batch=BatchSettings.read(environment),
            sink_id=environment.text("TOKENTIDE_SINK_ID", cls.sink_id),
            worker=environment.text("TOKENTIDE_WORKER", cls.worker),
            work_dir=Path(environment.text("TOKENTIDE_WORK_DIR", str(cls.work_dir))),
            session_timeout_seconds=environment.number(
                "TOKENTIDE_SESSION_TIMEOUT_SECONDS", cls.session_timeout_seconds, least=1.0
            ),
            metrics=MetricsSettings.read(environment),
        )
        try:
            environment.check()
        except SettingsError as error:
            problems.append(str(error))
        if problems:
            raise SettingsError("; ".join(problems))
        return settings
