"""One line that meters a client: `client = instrument(OpenAI())`."""

import importlib
import logging
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from tokentide.producers.attribution import ATTRIBUTABLE
from tokentide.producers.default_guard import guard_of
from tokentide.producers.instrumentation.observe import MARK, Observe, Undo
from tokentide.producers.observation import Guards, Tracker
from tokentide.producers.observation_tally import complain
from tokentide.producers.process import Renewed
from tokentide.schemas import UsageEvent

__all__ = ["INTEGRATIONS", "checked_defaults", "instrument", "uninstrument"]

Client = TypeVar("Client")

INTEGRATIONS = {
    "anthropic": "openai_like",
    "botocore": "bedrock",
    "cerebras": "openai_like",
    "cohere": "cohere",
    "google.genai": "google_genai",
    "groq": "openai_like",
    "mistralai": "mistral",
    "ollama": "ollama",
    "openai": "openai_like",
    "together": "openai_like",
}
"""The module in which a client's class, or a class it derives from, is made -> the module here that wraps it.

Each has `wrap(client, observe: Observe) -> Undo`: it wraps the client in place, or raises; the message of a
`TypeError` tells what does not fit.
"""


_ALLOWED = ATTRIBUTABLE | {
    *("provider", "model", "processing", "service_tier", "speed"),
    *("tags", "metadata", "source", "sdk_name", "sdk_version"),
}
_logger = logging.getLogger("tokentide.producers")
_unmetered: set[str] = set()


class _Turns(Renewed):
    """One thread wraps at a time: two that find a client unmetered at once would each wrap it."""

    def after_fork(self) -> None:
        """Have a lock that no thread of the parent holds."""
        self.lock = threading.RLock()


_turns = _Turns()


def instrument(
    client: Client, producer: Tracker | None = None, *, guard: Guards | bool | None = None, **defaults: Any
) -> Client:
    """Meter every call of the client, and return the same client: one event for each, whatever way it ends.

    Without a producer the events go to the default one of the process. `guard.require(...)` is asked before each
    call, and what it raises reaches the caller; True stands for one guard of the process, made from the environment.
    `defaults` are fields of UsageEvent for the calls of this client (`service`, `operation`, `tags`, `provider` for a
    server that its address does not tell, ...); `attribution()` wins over them. Twice is once. Never raises: a client
    that cannot be wrapped is returned unmetered, with a WARNING in the log, once for each class.
    """
    try:
        with _turns.lock:
            if MARK in getattr(client, "__dict__", {}):
                return client
            known = checked_defaults(defaults)
            provider = known.pop("provider", None)
            observe = Observe(producer, guard_of(guard), known, provider)
            undo = _integration(client)(client, observe)
            setattr(client, MARK, undo)
    except Exception as error:  # the service goes on, unmetered, and says so
        _say_unmetered(client, error)
    return client


def uninstrument(client: Client) -> Client:
    """Give the client back unmetered; one that was not instrumented stays as it is. Never raises."""
    try:
        undo: Undo | None = vars(client).get(MARK)
        if undo is not None:
            delattr(client, MARK)
            undo()
    except Exception as error:
        complain("uninstrument", error)
    return client


def _integration(client: object) -> Any:
    for kind in type(client).__mro__:
        for module, integration in INTEGRATIONS.items():
            if kind.__module__ == module or kind.__module__.startswith(module + "."):
                return importlib.import_module(f"{__name__}.{integration}").wrap
    raise TypeError("no integration knows it")


def checked_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults that an event may carry: a wrong one must not make every event invalid."""
    known: dict[str, Any] = {}
    for name, value in defaults.items():
        if name not in _ALLOWED:
            complain("instrument", f"{name[:64]!r} is no field that a client's calls share: it was left out")
        elif value is not None:
            known[name] = str(value) if name in ATTRIBUTABLE else value
    if isinstance(known.get("tags"), Mapping):
        known["tags"] = {str(tag): str(value) for tag, value in known["tags"].items()}
    try:
        UsageEvent(**{"provider": "any", "model": "any", **known}, timestamp=datetime.now(UTC))
    except ValidationError as error:
        for wrong in {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}:
            known.pop(wrong, None)
            complain("instrument", f"the default {wrong} is not what an event may carry: it was left out")
    return known


def _say_unmetered(client: object, error: Exception) -> None:
    kind = type(client)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name not in _unmetered:
        _unmetered.add(name)
        _logger.warning(
            "%s%s is NOT metered: %s",
            name,
            _version(kind.__module__),
            error if isinstance(error, TypeError) else f"{type(error).__name__}: {error}",
        )


def _version(module: str) -> str:
    while module:
        version = getattr(sys.modules.get(module), "__version__", None)
        if isinstance(version, str):
            return f" {version}"
        module = module.rpartition(".")[0]
    return ""
