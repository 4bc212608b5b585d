"""Who may do what, and how a request says who it is."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message

from tokentide.sinks.embedded.faults import Fault

__all__ = ["Account", "Accounts"]

ANONYMOUS = "default"


@dataclass(frozen=True)
class Account:
    """One name with its password; `may_write` is false for an account that only reads."""

    name: str
    password: str
    may_write: bool


class Accounts:
    """The accounts of one server.

    Without an account that may write, every name that is not listed may write, with any password: then only
    the loopback address protects the data.
    """

    def __init__(self, listed: list[Account]) -> None:
        self._listed = {account.name: account for account in listed}
        self.is_open = not any(account.may_write for account in listed)

    def find(self, headers: Message, parameters: Mapping[str, str]) -> Account:
        """The account that a request names by headers, basic auth or parameters, else Fault 516."""
        name, password = _credentials(headers, parameters)
        account = self._listed.get(name)
        if account is None and self.is_open:
            return Account(name, password, may_write=True)
        expected = account.password if account else ""
        matches = hmac.compare_digest(expected.encode(), password.encode())
        if account is None or not matches:
            raise _refused(name)
        return account


def _credentials(headers: Message, parameters: Mapping[str, str]) -> tuple[str, str]:
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return headers.get("X-ClickHouse-User") or ANONYMOUS, headers.get("X-ClickHouse-Key", "")
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise _refused("unknown") from None
        return name or ANONYMOUS, password
    if scheme:
        raise _refused(f"a user with {scheme} authentication")
    return parameters.get("user") or ANONYMOUS, parameters.get("password", "")


def _refused(name: str) -> Fault:
    message = f"{name}: Authentication failed: password is incorrect, or there is no user with such name."
    return Fault.new(516, "AUTHENTICATION_FAILED", message)
