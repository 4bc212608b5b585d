"""A Kafka that does not answer, a door that dies: what was sent again counts once."""

import gzip
import http.client
import json
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.commands import run
from support.door import Door, create_topic, open_door
from support.frozen import frozen

from tokentide.console.kafka import KafkaCluster

TOPIC = "outage"
ACK_SECONDS = "2"
HEAD = b"POST /v1/usage HTTP/1.1\r\nHost: door\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def cluster(jars: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A Kafka that may be hurt."""
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as running:
        create_topic(running.bootstrap, TOPIC)
        yield running


@pytest.fixture
def door(cluster: KafkaCluster) -> Iterator[Door]:
    """A door that does not wait long."""
    with open_door(cluster.bootstrap, TOPIC, TOKENTIDE_INGEST_ACK_TIMEOUT_SECONDS=ACK_SECONDS) as running:
        yield running


def calls(count: int) -> list[dict[str, Any]]:
    return [{"userId": f"u{number}", "model": "gpt-4o", "inputTokens": number + 1} for number in range(count)]


def connected(door: Door) -> socket.socket:
    host, _, port = door.address.partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def send_until_taken(door: Door, sent: list[dict[str, Any]], **headers: str) -> list[str]:
    deadline = time.monotonic() + 60
    while (answer := door.post(sent, **headers)).status != 202:
        assert answer.status in (429, 503), answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return list(answer.json["event_ids"])


@pytest.mark.slow
def test_a_broker_that_pauses_is_503_and_the_same_request_later_counts_once(
    cluster: KafkaCluster, door: Door
) -> None:
    sent, key = calls(50), uuid.uuid4().hex
    with frozen(cluster):
        refused = door.post(sent, Idempotency_Key=key)
        assert door.request("GET", "/readyz").status == 503
        assert door.request("GET", "/healthz").status == 200

    again = send_until_taken(door, sent, Idempotency_Key=key)

    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.error.startswith("Kafka did not store everything in time (")
    assert refused.json["event_ids"] == again
    stored = door.stored()
    assert [{event["input_tokens"] for event in stored[name]} for name in again] == [
        {n + 1} for n in range(50)
    ]


@pytest.mark.slow
def test_a_broker_that_is_killed_is_503_and_a_request_without_ids_can_go_on_with_those_of_the_answer(
    cluster: KafkaCluster, door: Door
) -> None:
    sent = calls(50)
    cluster.kill(1)
    try:
        refused = door.post(sent)
    finally:
        cluster.restart(1)

    ids = refused.json["event_ids"]
    again = send_until_taken(door, [{**call, "event_id": name} for call, name in zip(sent, ids, strict=True)])

    assert refused.status == 503
    assert again == ids
    assert {name: {event["user_id"] for event in door.stored()[name]} for name in ids} == {
        name: {call["userId"]} for name, call in zip(ids, sent, strict=True)
    }


@pytest.mark.slow
def test_a_door_that_is_killed_under_load_leaves_nothing_that_it_took_behind(cluster: KafkaCluster) -> None:
    taken: list[str] = []
    settings = {"TOKENTIDE_INGEST_ACK_TIMEOUT_SECONDS": ACK_SECONDS}

    def send(door: Door) -> None:
        """Send until the door is gone; remember what it said it had taken."""
        while True:
            try:
                answer = door.post(calls(20))
            except (OSError, http.client.HTTPException):
                return
            taken.extend(answer.json["event_ids"] if answer.status == 202 else [])

    with open_door(cluster.bootstrap, TOPIC, **settings) as door, ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(send, door) for _ in range(4)]
        while len(taken) < 1000:
            time.sleep(0.05)
        door.process.kill()
        door.process.wait()
        for sender in senders:
            sender.result(30)

    assert set(taken) <= door.stored().keys()
    with open_door(cluster.bootstrap, TOPIC, **settings) as restarted:
        assert send_until_taken(restarted, [{**calls(1)[0], "event_id": taken[0]}]) == [taken[0]]


@pytest.mark.slow
def test_sigterm_lets_every_request_inside_have_its_answer(cluster: KafkaCluster) -> None:
    sent = calls(10)
    patient = open_door(cluster.bootstrap, TOPIC, TOKENTIDE_INGEST_ACK_TIMEOUT_SECONDS="30")
    with patient as door, ThreadPoolExecutor(2) as pool:
        with frozen(cluster):
            packed = gzip.compress(json.dumps(sent).encode())
            inside = [
                pool.submit(door.post, sent),
                pool.submit(door.post, packed, Content_Encoding="gzip"),
            ]
            both = f"tokentide_ingest_in_flight_bytes {2.0 * len(json.dumps(sent))}"
            while both not in door.request("GET", "/metrics").text:
                time.sleep(0.05)
            door.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        answers = [each.result(60) for each in inside]
        assert door.process.wait(60) == 0

    assert [answer.status for answer in answers] == [202, 202]
    assert {name for answer in answers for name in answer.json["event_ids"]} <= door.stored().keys()


@pytest.mark.slow
def test_sigterm_refuses_a_request_whose_body_does_not_come(kafka: str, door_topic: str) -> None:
    impatient = open_door(kafka, door_topic, TOKENTIDE_INGEST_ACK_TIMEOUT_SECONDS="1")
    with impatient as door, connected(door) as slow:
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        while "tokentide_ingest_in_flight_bytes 100.0" not in door.request("GET", "/metrics").text:
            time.sleep(0.05)
        door.process.send_signal(signal.SIGTERM)
        answer = http.client.HTTPResponse(slow)
        answer.begin()
        refused = json.loads(answer.read())
        assert door.process.wait(60) == 0

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert refused == {
        "error": "The door stops, and the body has not arrived: nothing was stored, send the same request again."
    }


def test_a_client_that_offers_another_protocol_or_none_is_no_line_in_the_log(
    kafka: str, door_topic: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_door(kafka, door_topic) as door:
        # As Java's HttpClient does with every request that is not encrypted.
        java = door.post(
            calls(1), Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABk"
        )
        with connected(door) as other:
            other.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            while other.recv(1000):
                pass

    assert java.status == 202
    assert capfd.readouterr().err == ""


def test_wrong_use_is_one_sentence(kafka: str, door_topic: str) -> None:
    no_level = run(
        "ingest",
        "--broker",
        kafka,
        environment={"TOKENTIDE_LOG_LEVEL": "chatty", "TOKENTIDE_TOPIC_EVENTS": door_topic},
    )
    no_topic = run("ingest", "--broker", kafka, environment={"TOKENTIDE_TOPIC_EVENTS": "nowhere"})
    open_to_all = run("ingest", "--broker", kafka, "--host", "0.0.0.0")

    assert (no_topic.code, no_topic.err) == (
        2,
        f"The topic nowhere does not exist on {kafka}; create it with `tokentide topics init`.\n",
    )
    assert (no_level.code, no_level.err) == (
        2,
        "TOKENTIDE_LOG_LEVEL='chatty' is none of DEBUG, INFO, WARNING, ERROR.\n",
    )
    assert (open_to_all.code, open_to_all.err) == (
        2,
        "Without keys everybody who reaches 0.0.0.0 could send usage: set TOKENTIDE_INGEST_KEY or "
        "TOKENTIDE_INGEST_KEYS_FILE, or listen on 127.0.0.1.\n",
    )


def test_a_port_that_is_taken_is_one_sentence(kafka: str, door_topic: str) -> None:
    with open_door(kafka, door_topic) as door:
        port = door.address.rpartition(":")[2]

        refused = run(
            "ingest", "--broker", kafka, "--port", port, environment={"TOKENTIDE_TOPIC_EVENTS": door_topic}
        )

    assert refused.code == 2
    assert refused.err.startswith(f"127.0.0.1:{port} cannot be listened on (")
