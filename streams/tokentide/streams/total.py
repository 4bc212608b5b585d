"""What was used: five numbers that add up."""

import msgspec

__all__ = ["Total"]


class Total(msgspec.Struct, gc=False):
    """The garbage collector leaves it alone: there are millions, and they refer to nothing."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_pico_usd: int = 0
    unpriced_requests: int = 0
    """Requests of unknown price: their cost is missing."""

    def add(self, more: "Total") -> None:
        """Add to it."""
        self.requests += more.requests
        self.input_tokens += more.input_tokens
        self.output_tokens += more.output_tokens
        self.cost_pico_usd += more.cost_pico_usd
        self.unpriced_requests += more.unpriced_requests

    def copy(self) -> "Total":
        """Return one that equals it, and to which is added apart."""
        return Total(
            self.requests, self.input_tokens, self.output_tokens, self.cost_pico_usd, self.unpriced_requests
        )
