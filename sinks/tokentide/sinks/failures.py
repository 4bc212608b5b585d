"""What ClickHouse's errors mean: wait and try again, look for the row, or stop and say what to do.

The codes are in `tokentide.schemas.failures`.
"""

import re

from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from urllib3.exceptions import HTTPError

from tokentide.schemas import ServiceUnavailableError, StorageRefusedError
from tokentide.schemas.failures import CLICKHOUSE, Failure, Handling
from tokentide.sinks.settings import ClickHouseSettings

__all__ = ["CLIENT_ERRORS", "RowRefusedError", "translate"]

CLIENT_ERRORS = (ClickHouseError, HTTPError, OSError)
"""Everything that a call through clickhouse-connect may raise."""

_AUTHENTICATION_FAILED = 516
_LONGEST_SENTENCE = 1000
# In ClickHouse's own words.
_UNKNOWN = Failure("", Handling.STOP)

_STATUS = re.compile(r"HTTP status (\d{3})")
_DECORATION = re.compile(
    r"^.*?server response: |^HTTP driver |\bCode: \d+\. |DB::Exception: "
    r"|\s*\(for url [^)]*\)|\s*\(version [^()]*(?:\([^()]*\))?[^()]*\)",
    re.DOTALL,
)


class RowRefusedError(StorageRefusedError):
    """Raised when ClickHouse refuses a value of a row; `reason` is its sentence. Without that row it may store."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


def translate(
    error: BaseException, settings: ClickHouseSettings, doing: str, advice: str | None = None
) -> ServiceUnavailableError | StorageRefusedError:
    """Return the error of ours for one of CLIENT_ERRORS.

    `doing` completes "ClickHouse at URL could not ..."; `advice` takes the place of the list's.
    ServiceUnavailableError: the identical call may work later. StorageRefusedError: it never will; and
    RowRefusedError, which is one: for the sake of a row.
    """
    where = f"ClickHouse at {settings.url}"
    code = getattr(error, "code", None)
    said = _words(error)
    if code == _AUTHENTICATION_FAILED:
        return StorageRefusedError(
            f"{where} refused the password of user {settings.user}: set TOKENTIDE_CLICKHOUSE_PASSWORD"
        )
    if code is None:
        return _without_code(error, where, doing, said)
    failure = CLICKHOUSE.get(code, _UNKNOWN)
    if failure.handling is Handling.RETRY:
        return ServiceUnavailableError(f"{where} cannot {doing} now: {said} (code {code}, {failure.name})")
    advice = advice or (failure.advice or "mend that and start again").format(user=settings.user)
    message = f"{where} refused to {doing}: {said} (code {code}); {advice}"
    if failure.handling is Handling.DEAD_LETTER:
        reason = f"ClickHouse: {said[:_LONGEST_SENTENCE]} (code {code}, {failure.name})"
        return RowRefusedError(message, reason)
    return StorageRefusedError(message)


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
