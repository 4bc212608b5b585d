"""The one guard of a process that nobody had to make: `instrument(client, guard=True)`."""

import importlib
from functools import lru_cache

from tokentide.producers.observation import Guards

__all__ = ["default_guard"]


@lru_cache(maxsize=1)
def default_guard() -> Guards:
    """Return the guard of this process, made from the environment at the first call.

    Raises SettingsError when the environment is wrong.
    """
    # Imported here: it reads Kafka, which a service without a guard does not.
    guard: Guards = importlib.import_module("tokentide.producers.guard").Guard()
    return guard
