"""The body of a response that the service reads itself, as bytes, lines or text (`with_streaming_response`)."""

import json
from typing import Any

from tokentide.producers.instrumentation.streams import is_last
from tokentide.producers.instrumentation.watched import watch_body
from tokentide.producers.left_open import ends_with_the_process
from tokentide.producers.observation import Observation
from tokentide.producers.observation_tally import complain

__all__ = ["observe_body"]


class _Body:
    """What a body says, piece by piece; the pieces themselves go to the service unchanged."""

    def __init__(self, observation: Observation, content_type: str, without_usage: Any) -> None:
        self._observation = observation
        self._is_events = "event-stream" in content_type
        self._is_json = "json" in content_type
        self._without_usage = without_usage
        self._pieces: list[bytes] = []
        self._line = b""
        self._data: list[bytes] = []
        self._complete = False
        self.pulling = False
        ends_with_the_process(self.finish)
        if self._is_events:
            observation.opened()

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        try:
            if self._is_events:
                *lines, self._line = (self._line + piece).split(b"\n")
                for line in lines:
                    self._take(line.rstrip(b"\r"))
            elif self._is_json:
                self._pieces.append(piece)
        except Exception as error:  # the service reads on
            complain("body", error)

    def finish(self, error: BaseException | None) -> None:
        """End the observation, once."""
        if not self._is_events and not isinstance(error, Exception):
            if not self._is_json:
                # Sound or plain text, which tells no usage: what the request says is known, whoever stopped reading.
                self._observation.answer(self._without_usage)
            elif error is None:
                self._observation.answer(b"".join(self._pieces))
        self._observation.end(None if self._complete and isinstance(error, GeneratorExit) else error)

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].strip())
        elif not line and self._data:
            data, self._data = b"\n".join(self._data), []
            if data == b"[DONE]":
                self._complete = True
            elif data.startswith(b"{"):
                chunk = json.loads(data)
                self._observation.chunk(chunk)
                self._complete = self._complete or is_last(chunk)

    def __del__(self) -> None:
        self.finish(GeneratorExit())


def observe_body(response: Any, observation: Observation, without_usage: Any) -> None:
    """Have the body of an open httpx response observed, as its user reads it; `without_usage`: the answer of sound.

    Raises TypeError or AttributeError when it is no such response: it is unchanged then.
    """
    watch_body(response, _Body(observation, response.headers.get("content-type", ""), without_usage))
