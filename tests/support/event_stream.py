"""Amazon's binary event streams (vnd.amazon.eventstream), as a server writes them."""

import base64
import binascii
import json
import struct
from typing import Any

__all__ = ["chunk", "frame"]


def frame(event_type: str, payload: dict[str, Any], *, message_type: str = "event") -> bytes:
    """Return one message: its lengths and their CRC, headers, the payload as JSON, the CRC of all."""
    named = "event" if message_type == "event" else "exception"
    headers = b"".join(
        _header(name, value)
        for name, value in (
            (":message-type", message_type),
            (f":{named}-type", event_type),
            (":content-type", "application/json"),
        )
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 12 + len(headers) + len(body) + 4, len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + body
    return message + struct.pack(">I", binascii.crc32(message))


def chunk(event: dict[str, Any]) -> bytes:
    """Return the message in which InvokeModelWithResponseStream wraps a model's own event."""
    return frame("chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode()})


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(text)) + text
