"""The body of an answer of InvokeModel: the service reads it as ever, and what it reads is observed."""

from collections.abc import Mapping
from typing import Any

from botocore.response import StreamingBody  # type: ignore[import-untyped]

from tokentide.producers.left_open import ends_with_the_process
from tokentide.producers.observation import Observation

__all__ = ["ObservedBody"]


class ObservedBody(StreamingBody):  # type: ignore[misc]  # botocore has no types
    """Stands for botocore's StreamingBody, which it reads."""

    def __init__(
        self, body: StreamingBody, observation: Observation, metadata: Mapping[str, Any] | None
    ) -> None:
        # The inner body checks its length itself.
        super().__init__(_Pieces(body, observation, metadata or {}), None)


class _Pieces:
    """The stream below: keeps what was read until the end, and tells the observation then."""

    def __init__(self, body: StreamingBody, observation: Observation, metadata: Mapping[str, Any]) -> None:
        self._body = body
        self._observation = observation
        self._metadata = metadata
        self._pieces: list[bytes] = []
        ends_with_the_process(observation.end)
        # An answer without a usage in its body tells its counts in headers.
        observation.answer({"ResponseMetadata": metadata})

    def read(self, amt: int | None = None) -> bytes:
        """Read as much, or all."""
        try:
            piece: bytes = self._body.read(amt)
        except BaseException as error:
            self._observation.end(error)
            raise
        self._pieces.append(piece)
        if amt is None or amt < 0 or (amt and not piece):
            text = b"".join(self._pieces).decode(errors="replace")
            self._observation.answer({"body": text, "ResponseMetadata": self._metadata})
            self._observation.end()
        return piece

    def readinto(self, buffer: memoryview) -> int:
        """Read into the buffer; return how many bytes."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def readlines(self) -> list[bytes]:
        """Read all, in lines."""
        return self.read().splitlines(keepends=True)

    def close(self) -> None:
        """Close the connection, read to the end or not."""
        self._observation.end(GeneratorExit())
        self._body.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body._raw_stream, name)

    def __del__(self) -> None:
        self._observation.end(GeneratorExit())
