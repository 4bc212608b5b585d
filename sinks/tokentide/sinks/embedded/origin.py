"""Where a request comes from: only this host may come without a password, and no web page at all."""

import ipaddress
from email.message import Message
from urllib.parse import urlsplit

from tokentide.sinks.embedded.faults import Fault

__all__ = ["check_origin", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Whether `host` is `localhost` or an address of the loopback interface."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_origin(headers: Message, *, is_open: bool) -> None:
    """Keep web pages out, which reach a loopback address through the browser; raises Fault.

    A browser names the page that sends a request. When that page's own name was made to point here, the names
    are the same, so a server without passwords (`is_open`) answers only to names of the loopback interface.
    """
    host = headers.get("Host", "")
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise Fault.new(497, "ACCESS_DENIED", f"Requests from pages of {origin} are not allowed")
    if is_open and host and not is_loopback(_name(host)):
        message = f"A server without passwords does not answer as {host}, only as 127.0.0.1 or localhost"
        raise Fault.new(497, "ACCESS_DENIED", message)


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
