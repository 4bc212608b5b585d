"""Calls models through LiteLLM in a process of its own, for LiteLLM leaves threads, loops and sockets behind.

`python -m support.litellm_calls URL`: prints, for each kind of call, its events as JSON.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from support.model_server import Recorder

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from litellm.exceptions import BadRequestError

from tokentide.producers.attribution import attribution
from tokentide.producers.instrumentation.litellm_callback import litellm_callback

MESSAGES = [{"role": "user", "content": "Say hello"}]
USAGE = {"include_usage": True}


def call(url: str, asynchronous: bool = False, **more: Any) -> Any:
    """Call a chat model at the address."""
    function: Any = litellm.acompletion if asynchronous else litellm.completion
    return function(
        model="openai/gpt-4o", messages=MESSAGES, api_base=url, api_key="k", max_retries=0, **more
    )


def answer(url: str) -> None:
    """Call in somebody's name."""
    with attribution(user_id="ada"):
        assert call(url).choices[0].message.content == "Hello"


def stream(url: str) -> None:
    """Read a stream to its end."""
    parts = [part for part in call(url, stream=True, stream_options=USAGE) if part.choices]
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "Hello"


def error(url: str) -> None:
    """Be refused."""
    try:
        call(url)
    except BadRequestError:
        return
    raise AssertionError("it was not refused")


def embeddings(url: str) -> None:
    """Ask for an embedding."""
    litellm.embedding(model="openai/text-embedding-3-small", input=["Say hello"], api_base=url, api_key="k")


async def answer_async(url: str) -> None:
    """Call in a task."""
    await call(url, asynchronous=True)
    await asyncio.sleep(0.5)


async def stream_async(url: str) -> None:
    """Read a stream in a task."""
    async for _ in await call(url, asynchronous=True, stream=True, stream_options=USAGE):
        pass
    await asyncio.sleep(0.5)


def events_of(make: Callable[[str], Any], url: str) -> list[dict[str, Any]]:
    """Return the events of a call: LiteLLM tells callbacks later, in a thread of its own, and perhaps twice."""
    recorder = Recorder()
    litellm.callbacks = [litellm_callback(recorder, service="shop")]
    called = make(f"{url}/{make.__name__}")
    if called is not None:
        asyncio.run(called)
    deadline = time.monotonic() + 20
    while not recorder.events and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    litellm.callbacks = []
    for names in ("input", "success", "failure", "_async_success", "_async_failure"):
        getattr(litellm, f"{names}_callback").clear()
    return recorder.events


if __name__ == "__main__":
    litellm.suppress_debug_info = True
    kinds = (answer, stream, error, embeddings, answer_async, stream_async)
    print(
        "events:" + json.dumps({kind.__name__: events_of(kind, sys.argv[1]) for kind in kinds}, default=str)
    )
