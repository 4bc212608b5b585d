"""Ids for events that have none: UUIDv7 (RFC 9562, section 5.7).

The random bits come from a generator that is seeded with 256 bits of the kernel's once a second. Each read of the
kernel's gives the interpreter's lock away, and a service thread that tracks an event would then wait for whatever
other thread takes it.
"""

import os
import random
import time

__all__ = ["new_event_id"]

_SEED_BYTES = 32
# A copy of this process (a snapshot of a virtual machine, restored twice) must not go on with the same bits.
_MOST_AGE_NS = 1_000_000_000
# 74 bits are needed.
_BYTES = 10
# The first two bits of this digit are the variant, 0b10, the others are random.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

_generator = random.Random(os.urandom(_SEED_BYTES))
"""Threads and signal handlers may take bits at any time: each time is one step."""
_seeded_ns = 0


def new_event_id() -> str:
    """Return a new UUIDv7: 48 bits of Unix milliseconds, then 74 random bits."""
    now_ns = time.time_ns()
    if not 0 <= now_ns - _seeded_ns < _MOST_AGE_NS:
        _seed(now_ns)
    bits = _generator.randbytes(_BYTES).hex()
    when = f"{now_ns // 1_000_000:012x}"
    return f"{when[:8]}-{when[8:]}-7{bits[:3]}-{_VARIANT[bits[3]]}{bits[4:7]}-{bits[7:19]}"


def _seed(now_ns: int = 0) -> None:
    global _seeded_ns
    _generator.seed(os.urandom(_SEED_BYTES))
    _seeded_ns = now_ns


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_seed)
