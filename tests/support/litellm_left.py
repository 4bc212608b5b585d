"""Leaves calls of LiteLLM before their end, as `support.litellm_calls` makes whole ones.

`python -m support.litellm_left URL`: prints, for each kind of call, its events as JSON. No garbage is collected
meanwhile: what is left gives its event at once.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
import openai
from litellm.exceptions import MidStreamFallbackError
from litellm.router import Router
from support.litellm_calls import MESSAGES, call, events_of
from support.model_server import Recorder

from tokentide.producers.attribution import attribution
from tokentide.producers.instrumentation import instrument
from tokentide.producers.instrumentation.litellm_callback import litellm_callback


class Printer:
    """A tracker for the end of the process: prints what it gets, as a kind of its own."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def track(self, **fields: Any) -> None:
        """Print the event."""
        say({self.kind: [fields]})


def say(found: dict[str, Any]) -> None:
    """Print events by kind."""
    print("events:" + json.dumps(found, default=str), flush=True)


OF_CLIENT = Recorder()
OF_TWIN = Recorder()
LEFT: list[Any] = []


def answer(url: str, model: str = "openai/gpt-4.1") -> dict[str, Any]:
    """Return the arguments of a call of the Responses API."""
    return {"model": model, "input": "Say hello", "api_base": url, "api_key": "k"}


def text(url: str) -> dict[str, Any]:
    """Return the arguments of a text completion."""
    model = "text-completion-openai/gpt-3.5-turbo-instruct"
    return {"model": model, "prompt": "Say hello", "api_base": url, "api_key": "k", "stream": True}


def leave(stream: Any, after: int = 2) -> None:
    """Read two chunks."""
    for number, _ in enumerate(stream, 1):
        if number == after:
            break


async def leave_async(stream: Awaitable[Any], after: int = 2) -> None:
    """Read two chunks in a task."""
    number = 0
    async for _ in await stream:
        number += 1
        if number == after:
            break


async def read(stream: Awaitable[Any]) -> None:
    """Read to an end that does not come."""
    async for _ in await stream:
        pass


async def cancel(made: Any) -> None:
    """Cancel a task while it waits."""
    task = asyncio.create_task(made)
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.wait([task])


def left(url: str) -> None:
    """Leave a stream that somebody asked for."""
    with attribution(user_id="ada"):
        stream = call(url, stream=True, metadata={"user_api_key_team_id": "red", "tags": ["blue"]})
    leave(stream)


def finished(url: str) -> None:
    """Leave a stream when the model has ended."""
    for chunk in call(url, stream=True):
        if chunk.choices[0].finish_reason:
            break


def closed(url: str) -> None:
    """Close a stream."""
    with call(url, stream=True) as stream:
        next(stream)


def unread(url: str) -> None:
    """Drop a stream unread."""
    call(url, stream=True)


def broken(url: str) -> None:
    """Read a stream that breaks off."""
    try:
        for _ in call(url, stream=True):
            pass
    except MidStreamFallbackError:
        return
    raise AssertionError("it did not break off")


def routed(url: str) -> None:
    """Leave a stream of the deployment that took over."""
    routes = [
        {"model_name": name, "litellm_params": {"model": "openai/gpt-4o", "api_base": base, "api_key": "k"}}
        for name, base in (("bad", f"{url}_bad"), ("good", url))
    ]
    router = Router(model_list=routes, num_retries=0, fallbacks=[{"bad": ["good"]}])
    leave(router.completion("bad", MESSAGES, stream=True, max_retries=0))
    gc.collect()  # the router keeps the error that it recovered from, and the error the frames it came through


def unlogged(url: str) -> None:
    """Leave a stream of which nothing shall be logged; the event is that of a second one."""
    leave(call(url, stream=True, **{"no-log": True}))
    leave(call(url, stream=True))


def instrumented(url: str) -> None:
    """Leave a stream of an instrumented client."""
    client = instrument(openai.OpenAI(base_url=url, api_key="k", max_retries=0), producer=OF_CLIENT)
    leave(call(url, stream=True, client=client))
    time.sleep(0.3)  # LiteLLM's threads still look at the chunks
    gc.collect()


def twice(url: str) -> None:
    """Leave a stream that two callbacks are told of."""
    litellm.callbacks.append(litellm_callback(OF_TWIN))
    leave(call(url, stream=True))


def claude(url: str) -> None:
    """Leave a stream of Claude, whose first chunk has counts."""
    model = "anthropic/claude-sonnet-4-5-20250929"
    leave(
        litellm.completion(
            model=model, messages=MESSAGES, stream=True, api_base=f"{url}/v1/messages", api_key="k"
        )
    )


def responses(url: str) -> None:
    """Leave a stream of the Responses API."""
    leave(litellm.responses(stream=True, **answer(url)), after=3)


def written(url: str) -> None:
    """Leave a text."""
    leave(litellm.text_completion(**text(url)))


async def left_async(url: str) -> None:
    """Leave a stream in a task."""
    await leave_async(call(url, asynchronous=True, stream=True))


async def written_async(url: str) -> None:
    """Leave a text in a task."""
    await leave_async(litellm.atext_completion(**text(url)))


async def responses_async(url: str) -> None:
    """Leave a stream of the Responses API in a task."""
    await leave_async(litellm.aresponses(stream=True, **answer(url)), after=3)


async def cancelled(url: str) -> None:
    """Cancel a call before anything came."""
    await cancel(call(url, asynchronous=True))


async def cancelled_stream(url: str) -> None:
    """Cancel a stream between two chunks."""
    await cancel(read(call(url, asynchronous=True, stream=True)))


async def cancelled_responses(url: str) -> None:
    """Cancel a stream of the Responses API between two events."""
    await cancel(read(litellm.aresponses(stream=True, **answer(url))))


async def cancelled_embedding(url: str) -> None:
    """Cancel an embedding."""
    model = "openai/text-embedding-3-small"
    await cancel(litellm.aembedding(model=model, input=["Say hello"], api_base=url, api_key="k"))


async def last(url: str) -> None:
    """End the loop with the answer, before LiteLLM's worker tells of it."""
    await call(url, asynchronous=True)


KINDS = (
    left,
    finished,
    closed,
    unread,
    broken,
    routed,
    unlogged,
    instrumented,
    twice,
    claude,
    responses,
    written,
    left_async,
    written_async,
    responses_async,
    cancelled,
    cancelled_stream,
    cancelled_responses,
    cancelled_embedding,
)

if __name__ == "__main__":
    litellm.suppress_debug_info = True
    gc.disable()
    for kind in KINDS:
        say({kind.__name__: events_of(kind, sys.argv[1])})
    say({"of_client": OF_CLIENT.events, "of_twin": OF_TWIN.events})
    litellm.callbacks = [litellm_callback(Printer("last"))]
    asyncio.run(last(f"{sys.argv[1]}/last"))
    litellm.input_callback.clear()
    litellm.callbacks = [litellm_callback(Printer("open_at_exit"))]
    LEFT.append(call(f"{sys.argv[1]}/left", stream=True))
    next(LEFT[0])
