"""Log lines that cannot flood a log."""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from confluent_kafka import KafkaError, KafkaException
from pydantic import ValidationError

__all__ = ["Complaints", "LibrdkafkaLog", "reason_of"]

_INTERVAL_SECONDS = 60.0


class Complaints:
    """Warnings, of each kind at most one a minute; the rest is counted in the next one.

    Who holds a lock says `later`, in a context of the complaints around it, at whose end they are logged: a handler
    of the service may wait for a thread that wants the lock.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._silent_until: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        self._later: deque[tuple[str, str]] = deque()
        self._logger = logging.getLogger("tokentide.producers")

    def warn(self, kind: str, sentence: str) -> None:
        """Log the sentence, unless one of its kind was logged within the last minute."""
        now = self._monotonic()
        if now < self._silent_until.get(kind, now):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._silent_until[kind] = now + _INTERVAL_SECONDS
        unsaid = self._unsaid.pop(kind, 0)
        self._logger.warning("%s%s", sentence, f" ({unsaid} more like this before)" if unsaid else "")

    def later(self, kind: str, sentence: str) -> None:
        """Have the sentence logged, as by `warn`, at the end of the context."""
        self._later.append((kind, sentence))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._later:
            try:
                kind, sentence = self._later.popleft()
            except IndexError:  # another thread, at the end of its own, has taken it
                return
            self.warn(kind, sentence)


class LibrdkafkaLog:
    """Makes debug lines of librdkafka's own, one for each failed connection; `Complaints` sums them up."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("tokentide.producers.librdkafka")

    def log(self, level: int, message: str, *values: object) -> None:
        """Log a line of librdkafka; its level is left aside."""
        self._logger.debug(message, *values)


def reason_of(error: object) -> str:
    """Return what is wrong as one line, without the values: they may be private."""
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or error.title}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False, include_input=False)[:5]
        )
    if isinstance(error, KafkaException):
        error = error.args[0]
    if isinstance(error, KafkaError):
        return str(error.str())
    return str(error) or type(error).__name__
