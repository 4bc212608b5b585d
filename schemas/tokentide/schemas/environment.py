"""Reading settings from environment variables, with all problems reported at once."""

import math
import os
from collections.abc import Mapping

from tokentide.schemas.errors import SettingsError

__all__ = ["Environment"]


class Environment:
    """Environment variables as typed values; problems gather until `check()`."""

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables
        self._problems: list[str] = []

    def text(self, name: str, default: str) -> str:
        """Return the variable, or the default when it is missing or empty."""
        return self._variables.get(name) or default

    def optional(self, name: str) -> str | None:
        """Return the variable, or None when it is missing or empty."""
        return self._variables.get(name) or None

    def whole(self, name: str, default: int, *, least: int = 0) -> int:
        """Return a whole number of at least `least`."""
        return int(self._number(name, default, least, int))

    def number(self, name: str, default: float, *, least: float = 0.0) -> float:
        """Return a number of at least `least`."""
        return self._number(name, default, least, float)

    def _number(self, name: str, default: float, least: float, kind: type[int] | type[float]) -> float:
        text = self.optional(name)
        if text is None:
            return default
        try:
            value = kind(text)
        except ValueError:
            self._problems.append(f"{name}={text!r} is not a {'whole ' if kind is int else ''}number")
            return default
        if not math.isfinite(value):
            self._problems.append(f"{name}={text!r} is not a finite number")
            return default
        if value < least:
            self._problems.append(f"{name}={text!r} must be at least {least:g}")
            return default
        return value

    def check(self) -> None:
        """Raise SettingsError that names every problem found so far."""
        if self._problems:
            raise SettingsError("; ".join(self._problems))
