"""The one guard of a process that nobody had to make: `instrument(client, guard=True)`."""

import importlib
from functools import lru_cache

from tokentide.producers.observation import Guards
from tokentide.producers.observation_tally import complain

__all__ = ["default_guard", "guard_of"]


@lru_cache(maxsize=1)
def default_guard() -> Guards:
    """Return the guard of this process, made from the environment at the first call.

    Raises SettingsError when the environment is wrong.
    """
    # Imported here: it reads Kafka, which a service without a guard does not.
    guard: Guards = importlib.import_module("tokentide.producers.guard").Guard()
    return guard


def guard_of(chosen: Guards | bool | None) -> Guards | None:
    """Return the guard that was given, for True that of the process; None without one, or when it cannot be made."""
    if chosen is True:
        try:
            return default_guard()
        except Exception as error:  # the calls are metered all the same
            complain("guard", f"calls are NOT guarded: {error}")
    return None if isinstance(chosen, bool) else chosen
