"""What LiteLLM's callback told in a process of its own, and what a server says to LiteLLM there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.model_server import ModelServer

Events = dict[str, list[dict[str, Any]]]
"""By kind of call."""

ID = "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT"
_TESTS = Path(__file__).parents[1]


def chunk(text: str, reason: str | None = None) -> dict[str, Any]:
    """Return a chunk of a chat's stream."""
    return {
        "id": ID,
        "object": "chat.completion.chunk",
        "created": 1772366400,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": reason}],
    }


def events_told(script: str, server: ModelServer) -> Events:
    """Run the module, which prints lines of events, against the server; close that."""
    done = subprocess.run(
        [sys.executable, "-m", script, server.url], cwd=_TESTS, capture_output=True, text=True, timeout=240
    )
    server.close()
    assert done.returncode == 0, done.stderr[-3000:]
    events: Events = {}
    for line in done.stdout.splitlines():
        if line.startswith("events:"):
            for kind, found in json.loads(line.removeprefix("events:")).items():
                events[kind] = events.get(kind, []) + found
    return events
