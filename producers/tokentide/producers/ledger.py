"""Writes the ledger of credits, and waits until Kafka has it: an entry is money that somebody was promised."""

import threading
import time
from dataclasses import replace
from decimal import Decimal
from types import TracebackType
from typing import Literal, Self, Unpack

from confluent_kafka import KafkaError, Message, Producer

from tokentide.producers.complaints import Complaints, LibrdkafkaLog, reason_of
from tokentide.producers.credit_entry import CreditEntry, CreditFields, credit_entry
from tokentide.producers.memory import MEMORY, captured
from tokentide.producers.process import abandon, register
from tokentide.producers.settings import ProducerSettings
from tokentide.schemas import Environment

__all__ = ["CreditLedger"]

_TOPIC = "usage.credits"
_POLL_SECONDS = 0.05


class CreditLedger:
    """Writes entries and waits until Kafka has stored them; one for a process is enough, any thread may use it.

    Without `settings` the environment is read. Raises SettingsError for wrong settings. After a fork the child
    has a client of its own. With the broker `memory://` entries are checked, and nothing is sent.
    """

    def __init__(
        self, settings: ProducerSettings | None = None, *, broker: str | None = None, topic: str | None = None
    ) -> None:
        settings = settings or ProducerSettings.from_env()
        if broker is not None:
            settings = replace(settings, kafka=replace(settings.kafka, broker=broker))
        self._settings = settings
        self._topic = topic or Environment().text("TOKENTIDE_TOPIC_CREDITS", _TOPIC)
        self._client: Producer | None = None
        self.after_fork()
        register(self)

    def grant(
        self, amount: Decimal | int | str, *, timeout: float = 5.0, **entry: Unpack[CreditFields]
    ) -> bool:
        """Give credits for nothing: a trial, the month of a subscription. Otherwise as `purchase`."""
        return self._write("grant", amount, entry, timeout)

    def purchase(
        self, amount: Decimal | int | str, *, timeout: float = 5.0, **entry: Unpack[CreditFields]
    ) -> bool:
        """Give what was paid for; return whether Kafka has stored it, after `timeout` seconds at most.

        After False call it again with the same reference: it counts once. Never raises: what is wrong is logged.
        Blocks: in asyncio use `await asyncio.to_thread(...)`.
        """
        return self._write("purchase", amount, entry, timeout)

    def adjust(
        self, amount: Decimal | int | str, *, timeout: float = 5.0, **entry: Unpack[CreditFields]
    ) -> bool:
        """Correct the balance by an amount of either sign. Otherwise as `purchase`."""
        return self._write("adjustment", amount, entry, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Send what is still on its way, at most `timeout` seconds. Closing twice is harmless."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.flush(timeout)
            client.purge()
            client.flush(1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def after_fork(self) -> None:
        """Start anew in a child process; called by the interpreter."""
        if self._client is not None:
            abandon(self._client)
        self._client = None
        self._lock = threading.RLock()
        self._complaints = Complaints()

    def close_at_exit(self) -> None:
        """Close; called by the interpreter at the end of the process."""
        self.close()

    def _write(
        self,
        kind: Literal["grant", "purchase", "adjustment"],
        amount: Decimal | int | str,
        fields: CreditFields,
        timeout: float,
    ) -> bool:
        try:
            problem = self._send(credit_entry(kind, amount, **fields), timeout)
        except Exception as error:  # whatever a service passes: its own work goes on
            problem = reason_of(error)
        if problem:
            self._complaints.warn("credits", f"a {kind} was not written to the ledger: {problem}")
        return not problem

    def _send(self, entry: CreditEntry, timeout: float) -> str:
        """Wait for Kafka's answer; return what is wrong, or an empty string."""
        if self._settings.kafka.broker == MEMORY or captured() is not None:
            return ""
        answers: list[KafkaError | None] = []

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            answers.append(error)

        client = self._started()
        client.produce(
            self._topic,
            entry.model_dump_json(exclude_none=True).encode(),
            f"{entry.scope}:{entry.scope_id}".encode(),
            on_delivery=on_delivery,
        )
        deadline = time.monotonic() + timeout
        while not answers:
            if time.monotonic() >= deadline:
                return f"Kafka at {self._settings.kafka.broker} did not answer within {timeout:g} s"
            client.poll(_POLL_SECONDS)
        return "" if answers[0] is None else answers[0].str()

    def _started(self) -> Producer:
        with self._lock:
            if self._client is None:
                self._client = Producer(
                    {**self._settings.librdkafka(), "linger.ms": 0, "logger": LibrdkafkaLog()}
                )
            return self._client
