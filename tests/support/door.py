"""`tokentide ingest` as a process, and requests as curl would send them."""

import http.client
import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from support.commands import COMMAND, variables
from support.oracle import read_topic

__all__ = ["Answer", "Door", "create_topic", "open_door"]

_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """What the door said."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.text)

    @property
    def error(self) -> str:
        """Why it refused."""
        return str(self.json["error"])


@dataclass
class Door:
    """A door that runs."""

    process: subprocess.Popen[str]
    address: str
    broker: str
    topic: str

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send one request over a connection of its own; `X_Y="z"` is the header `X-Y: z`."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        if body is not None and "Content-Type" not in named:
            named["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self.address, timeout=_ANSWER_SECONDS)
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, sent, named)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read().decode())
        finally:
            connection.close()

    def post(self, body: Any, path: str = "/v1/usage", **headers: str) -> Answer:
        """Send usage."""
        return self.request("POST", path, body, **headers)

    def stored(self) -> dict[str, list[dict[str, Any]]]:
        """What the topic holds, by event id."""
        found: dict[str, list[dict[str, Any]]] = {}
        for message in read_topic(self.broker, self.topic):
            event = json.loads(message.value() or b"")
            found.setdefault(event["event_id"], []).append(event)
        return found


def create_topic(broker: str, topic: str) -> None:
    """Make a topic of four partitions."""
    admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(30)


@contextmanager
def open_door(broker: str, topic: str, *arguments: str, **settings: str) -> Iterator[Door]:
    """Run the command until the block ends; then it must stop in order."""
    environment = variables(TOKENTIDE_BROKER=broker, TOKENTIDE_TOPIC_EVENTS=topic, **settings)
    command = [*COMMAND, "ingest", "--port", "0", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("ready http://"), ready
            yield Door(process, ready.strip().removeprefix("ready http://"), broker, topic)
        except BaseException:
            process.kill()
            raise
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
