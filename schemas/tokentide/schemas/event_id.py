"""Ids for events that have none: UUIDv7 (RFC 9562, section 5.7).

The kernel's random bytes are taken for 64 ids at once. Each read gives the interpreter's lock away, and a service
thread that tracks an event would then wait for whatever other thread takes it.
"""

import os
import time

__all__ = ["new_event_id"]

_IDS = 64
# 74 bits are needed.
_BYTES = 10
_DIGITS = 2 * _BYTES
# A copy of this process (a snapshot of a virtual machine, restored twice) must not go on with the same bytes.
_MOST_AGE_NS = 1_000_000_000
# The first two bits of this digit are the variant, 0b10, the others are random.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

_ready: list[str] = []
"""Random hexadecimal digits, an item for an id; threads and signal handlers may take at any time."""
_made_ns = 0


def new_event_id() -> str:
    """Return a new UUIDv7: 48 bits of Unix milliseconds, then 74 random bits of the kernel's."""
    global _made_ns
    now_ns = time.time_ns()
    if not 0 <= now_ns - _made_ns < _MOST_AGE_NS:
        _ready.clear()
    try:
        bits = _ready.pop()
    except IndexError:
        digits = os.urandom(_BYTES * _IDS).hex()
        _made_ns = now_ns
        bits = digits[:_DIGITS]
        _ready.extend(digits[at : at + _DIGITS] for at in range(_DIGITS, len(digits), _DIGITS))
    when = f"{now_ns // 1_000_000:012x}"
    return f"{when[:8]}-{when[8:]}-7{bits[:3]}-{_VARIANT[bits[3]]}{bits[4:7]}-{bits[7:19]}"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ready.clear)
