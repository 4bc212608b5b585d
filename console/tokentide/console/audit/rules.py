"""Which records of the log count, as the meter was told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tokentide.schemas import Environment

__all__ = ["AuditRules"]


@dataclass(frozen=True, slots=True)
class AuditRules:
    """The meter's settings that decide what counts; the audit must run with the same."""

    max_future_seconds: int = 3600
    """An event further ahead of its Kafka record is rejected."""
    dedupe_days: int = 7
    """How long the meter remembers event ids; a repeat that comes later is reported."""

    @classmethod
    def from_env(cls, variables: Mapping[str, str] | None = None) -> Self:
        """Read `TOKENTIDE_*`; raises SettingsError that names every problem."""
        environment = Environment(variables)
        rules = cls(
            environment.whole("TOKENTIDE_MAX_FUTURE_SECONDS", 3600),
            environment.whole("TOKENTIDE_DEDUPE_DAYS", 7, least=1),
        )
        environment.check()
        return rules
