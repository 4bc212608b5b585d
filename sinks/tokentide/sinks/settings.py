"""How to reach ClickHouse, and how large an insert may grow."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from tokentide.schemas import Environment, SettingsError

__all__ = ["BatchSettings", "ClickHouseSettings"]


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
    """When a batch is inserted: at `rows` rows, or `seconds` after its first record."""

    rows: int = 10_000
    seconds: float = 1.0

    @classmethod
    def read(cls, environment: Environment) -> "BatchSettings":
        """Read `TOKENTIDE_SINK_BATCH_*`."""
        return cls(
            rows=environment.whole("TOKENTIDE_SINK_BATCH_ROWS", cls.rows, least=1),
            seconds=environment.number("TOKENTIDE_SINK_BATCH_SECONDS", cls.seconds),
        )
