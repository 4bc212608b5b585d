"""Reaching the Kafka cluster, or saying in one sentence why it cannot be reached."""

import re
import time
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from tokentide.schemas import KafkaSettings, ServiceUnavailableError, SettingsError

__all__ = ["QUIET", "Broker", "reach"]

_LIST_SECONDS = 8.0

# What librdkafka says around the words that matter: where it stood, and for how long.
_NOISE = re.compile(r"^\S+?/\S+?: | \(after \d+ms in state \w+(, \d+ identical error\(s\) suppressed)?\)")

# librdkafka would print each refused connection; we say it once, in our words.
QUIET: dict[str, str | int | float | bool] = {
    "log_level": 0,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 1000,
}


@dataclass(frozen=True)
class Broker:
    """A cluster that has just answered."""

    admin: AdminClient
    metadata: ClusterMetadata
    latency_ms: float


def reach(kafka: KafkaSettings, *, timeout_seconds: float = _LIST_SECONDS) -> Broker:
    """Return the cluster once it has listed its topics.

    Blocks up to the timeout. Raises ServiceUnavailableError when it does not answer, SettingsError when librdkafka
    refuses the settings.
    """
    reasons: list[str] = []

    def remember(error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            reasons.append(_NOISE.sub("", error.str()))

    properties: dict[str, Any] = {**kafka.librdkafka(), **QUIET, "error_cb": remember}
    try:
        admin = AdminClient(properties)
    except KafkaException as error:
        raise SettingsError(f"The Kafka settings are not usable: {error.args[0].str()}.") from error
    try:
        admin.list_topics(timeout=timeout_seconds)
        # The first answer includes connecting; the second is what a request takes.
        started = time.perf_counter()
        metadata = admin.list_topics(timeout=timeout_seconds)
        latency_ms = 1000 * (time.perf_counter() - started)
    except KafkaException as error:
        admin.poll(0)
        reason = f" ({reasons[-1]})" if reasons else ""
        raise ServiceUnavailableError(
            f"Kafka at {kafka.broker} does not answer within {timeout_seconds:.0f} s{reason}; start one with "
            "`tokentide up` or name another with --broker or TOKENTIDE_BROKER."
        ) from error
    return Broker(admin, metadata, latency_ms)
