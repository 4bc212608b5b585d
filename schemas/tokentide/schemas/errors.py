"""What can go wrong, as one tree.

TokentideError
├── SettingsError             wrong use: the caller changes a setting, an argument or a file
├── InvalidEventError         poison: this record can never be accepted; it goes to `usage.rejected`
├── ServiceUnavailableError   retryable: Kafka, ClickHouse or a registry does not answer now
├── DataLossError             stop: a hole in the log, a failed delivery, state that cannot be trusted
└── StorageRefusedError       stop: ClickHouse answers, and will refuse the same request for ever
"""

__all__ = [
    "DataLossError",
    "InvalidEventError",
    "ServiceUnavailableError",
    "SettingsError",
    "StorageRefusedError",
    "TokentideError",
]


class TokentideError(Exception):
    """The base of every error that tokentide raises; its text is one sentence that says what to do."""


class SettingsError(TokentideError):
    """Raised when a setting, an argument or an input file is wrong; the command exits with code 2."""


class InvalidEventError(TokentideError, ValueError):
    """Raised when an event can never be accepted; never retried."""


class ServiceUnavailableError(TokentideError):
    """Raised when a service does not answer; the same call may work later."""


class DataLossError(TokentideError):
    """Raised where going on would lose or double money; the process stops and its supervisor restarts it."""


class StorageRefusedError(TokentideError):
    """Raised when ClickHouse refuses what no retry can mend: a password, a schema, a missing right."""
