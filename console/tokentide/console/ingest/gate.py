"""How much may be in flight: the bound on memory, and the backpressure that clients feel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tokentide.console.ingest.refusal import Refusal

__all__ = ["Gate"]

_RETRY_SECONDS = 1


class Gate:
    """Lets requests in while their bodies fit together; for one event loop."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0

    @property
    def bytes_in_flight(self) -> int:
        """The bodies inside, together."""
        return self._bytes

    @contextmanager
    def hold(self, size: int) -> Iterator[Callable[[int], None]]:
        """Keep room for a body of so many bytes until the block ends; raises Refusal, 429, when there is none.

        The block gets a function that takes how many bytes it has after all, no more than that.
        """
        if self._bytes + size > self._most_bytes:
            raise Refusal(
                429,
                "Too much is in flight: send the same request again a little later.",
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )
        held = size
        self._bytes += held

        def shrink(to: int) -> None:
            nonlocal held
            self._bytes += to - held
            held = to

        try:
            yield shrink
        finally:
            self._bytes -= held
