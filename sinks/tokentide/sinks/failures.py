"""What ClickHouse's errors mean: wait and try again, or stop and say what to do.

The names and numbers are those of ClickHouse's `system.errors`.
"""

import re

from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from urllib3.exceptions import HTTPError

from tokentide.schemas import ServiceUnavailableError, StorageRefusedError
from tokentide.sinks.settings import ClickHouseSettings

__all__ = ["ADVICE", "CLIENT_ERRORS", "RETRYABLE", "translate"]

CLIENT_ERRORS = (ClickHouseError, HTTPError, OSError)
"""Everything that a call through clickhouse-connect may raise."""

# The same request may work later: the server is busy, starting, read-only, out of memory or out of reach.
RETRYABLE = {
    3: "UNEXPECTED_END_OF_FILE",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    159: "TIMEOUT_EXCEEDED",
    198: "DNS_ERROR",
    201: "QUOTA_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    254: "NO_ACTIVE_REPLICAS",
    279: "ALL_CONNECTION_TRIES_FAILED",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    439: "CANNOT_SCHEDULE_TASK",
    473: "DEADLOCK_AVOIDED",
    499: "S3_ERROR",
    667: "NOT_INITIALIZED",
    745: "SERVER_OVERLOADED",
    999: "KEEPER_EXCEPTION",
}

_PASSWORD = "set TOKENTIDE_CLICKHOUSE_USER and TOKENTIDE_CLICKHOUSE_PASSWORD"
_RIGHT = "grant user {user} the right, or set TOKENTIDE_CLICKHOUSE_USER"
_MIGRATE = "run `tokentide migrate`"

# What to do about a refusal. Any code that is in neither table is a refusal too, in ClickHouse's own words.
ADVICE = {
    16: _MIGRATE,  # NO_SUCH_COLUMN_IN_TABLE
    47: _MIGRATE,  # UNKNOWN_IDENTIFIER
    60: _MIGRATE,  # UNKNOWN_TABLE
    81: _MIGRATE,  # UNKNOWN_DATABASE
    164: _RIGHT,  # READONLY
    192: _PASSWORD,  # UNKNOWN_USER
    193: _PASSWORD,  # WRONG_PASSWORD
    194: _PASSWORD,  # REQUIRED_PASSWORD
    497: _RIGHT,  # ACCESS_DENIED
}
_AUTHENTICATION_FAILED = 516

_STATUS = re.compile(r"HTTP status (\d{3})")
_DECORATION = re.compile(
    r"^.*?server response: |^HTTP driver |\bCode: \d+\. |DB::Exception: "
    r"|\s*\(for url [^)]*\)|\s*\(version [^()]*(?:\([^()]*\))?[^()]*\)",
    re.DOTALL,
)


def translate(
    error: BaseException, settings: ClickHouseSettings, doing: str, advice: str | None = None
) -> ServiceUnavailableError | StorageRefusedError:
    """Return the error of ours for one of CLIENT_ERRORS.

    `doing` completes "ClickHouse at URL could not ..."; `advice` takes the place of ADVICE.
    ServiceUnavailableError: the identical call may work later. StorageRefusedError: it never will.
    """
    where = f"ClickHouse at {settings.url}"
    code = getattr(error, "code", None)
    said = _words(error)
    if code == _AUTHENTICATION_FAILED:
        return StorageRefusedError(
            f"{where} refused the password of user {settings.user}: set TOKENTIDE_CLICKHOUSE_PASSWORD"
        )
    if code in RETRYABLE:
        return ServiceUnavailableError(f"{where} cannot {doing} now: {said} (code {code}, {RETRYABLE[code]})")
    if code is not None:
        advice = advice or ADVICE.get(code, "mend that and start again").format(user=settings.user)
        return StorageRefusedError(f"{where} refused to {doing}: {said} (code {code}); {advice}")
    return _without_code(error, where, doing, said)


def _without_code(
    error: BaseException, where: str, doing: str, said: str
) -> ServiceUnavailableError | StorageRefusedError:
    status = _STATUS.search(str(error))
    if status is not None and int(status[1]) < 500 and status[1] not in ("408", "429"):
        return StorageRefusedError(
            f"{where} answered HTTP {status[1]} when asked to {doing}: check TOKENTIDE_CLICKHOUSE_URL, "
            "or the proxy before it"
        )
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return StorageRefusedError(f"{where} shows a TLS certificate that is not trusted: {said}")
    if status is not None:
        return ServiceUnavailableError(f"{where} cannot {doing} now: it answers HTTP {status[1]}")
    if isinstance(error, OperationalError | HTTPError | OSError):
        return ServiceUnavailableError(
            f"{where} does not answer ({_reason(error)}): start it, or set TOKENTIDE_CLICKHOUSE_URL"
        )
    return StorageRefusedError(f"{where} could not {doing}: {said}")


def _words(error: BaseException) -> str:
    """ClickHouse's sentence, on one line, without codes, version and URL."""
    text = " ".join(_DECORATION.sub("", str(error)).split())
    return re.sub(r"\s*\([A-Z][A-Z0-9_]+\)$", "", text).rstrip(". ")


def _reason(error: BaseException) -> str:
    """The innermost cause: urllib3 wraps "Connection refused" three times."""
    seen = error
    while True:
        inner = seen.__cause__ or seen.__context__ or getattr(seen, "reason", None)
        if not isinstance(inner, BaseException) or inner is seen:
            break
        seen = inner
    text = str(seen)
    return re.sub(r"^\[Errno -?\d+\] |^.*?: (?=[A-Z])", "", text) or type(seen).__name__
