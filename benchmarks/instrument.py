"""What `instrument()` adds to a call, with the official openai client against a server on this machine.

    .venv/bin/python benchmarks/instrument.py [--rounds 9]

Inside the clock: the CPU of the calling thread, from the call to the end of the answer, for a chat in one piece and
for a stream of 103 chunks. Plain and metered calls take turns; the least of all rounds is printed, for others use
this machine too. Metered is with a real UsageProducer that spools, whose broker is away. Outside: the server, which
is a process of its own, and the producer's thread.
"""

import argparse
import gc
import json
import logging
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import openai
from openai.types.chat import ChatCompletionUserMessageParam

from tokentide.producers import ProducerSettings, UsageProducer, instrument, uninstrument
from tokentide.schemas import KafkaSettings

_CHUNKS = 100
_HEAD: dict[str, Any] = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "created": 1741569952,
    "model": "gpt-4.1",
}
_USAGE = {"prompt_tokens": 60, "completion_tokens": 102, "total_tokens": 162}
_ASKED: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Hello " * 50}]


def answer() -> bytes:
    """Return a chat in one piece."""
    message = {"role": "assistant", "content": "word " * _CHUNKS}
    choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
    return json.dumps({**_HEAD, "object": "chat.completion", "choices": choices, "usage": _USAGE}).encode()


def stream() -> bytes:
    """Return the same as server-sent events: the role, the words, the end, the usage."""
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": "word "}, None)] * _CHUNKS
    deltas += [({}, "stop")]
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]} for delta, reason in deltas
    ]
    chunks.append({"choices": [], "usage": _USAGE})
    lines = [json.dumps({**_HEAD, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


def serve(pipe: Connection) -> None:
    """Answer until the process is ended."""
    whole, pieces = answer(), stream()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body, kind = (pieces, "text/event-stream") if asked.get("stream") else (whole, "application/json")
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send(server.server_port)
    server.serve_forever()


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=9)
    rounds = options.parse_args().rounds
    logging.disable(logging.CRITICAL)  # that the broker is away is meant
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    process.start()
    client = openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{here.recv()}", max_retries=0)

    def chat() -> None:
        client.chat.completions.create(model="gpt-4.1", messages=_ASKED)

    def chunks() -> None:
        told = client.chat.completions.create(
            model="gpt-4.1", messages=_ASKED, stream=True, stream_options={"include_usage": True}
        )
        for _ in told:
            pass

    with tempfile.TemporaryDirectory() as folder:
        producer = UsageProducer(
            ProducerSettings(kafka=KafkaSettings(broker="127.0.0.1:1"), spool_dir=folder)
        )
        for name, call, times in (("chat", chat, 40), ("stream", chunks, 4)):
            call()
            plain, metered = [], []
            for _ in range(rounds):
                plain.append(cpu_us(call, times))
                instrument(client, producer)
                metered.append(cpu_us(call, times))
                uninstrument(client)
            print(f"{name:8} plain {min(plain):8,.0f} us  metered {min(metered):8,.0f} us")
        producer.close(0)
    process.terminate()


def cpu_us(call: Callable[[], None], times: int) -> float:
    """Return the microseconds of this thread's CPU that one call took."""
    gc.collect()
    started = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - started) / times * 1e6


if __name__ == "__main__":
    main()
