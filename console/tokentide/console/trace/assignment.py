"""Who made the i-th call of a trace, and with which model: traces do not say, so it is derived from i alone."""

import uuid
from typing import NamedTuple

from tokentide.console.trace.options import TraceOptions

__all__ = ["Assignment", "assign", "trace_event_id"]

_STRIDE = 7919  # A prime, so that neighbouring rows belong to users far apart.


class Assignment(NamedTuple):
    """What row i of a trace is given."""

    provider: str
    model: str
    user_id: str
    team_id: str


def assign(options: TraceOptions, index: int) -> Assignment:
    """Return what the row gets; the same for the same index and options, always."""
    provider, model = options.models[index % len(options.models)]
    user = index * _STRIDE % options.users
    return Assignment(provider, model, f"user-{user:04d}", f"team-{user % options.teams:02d}")


def trace_event_id(file_name: str, index: int) -> str:
    """Return the id of the row's event: a trace that is replayed twice counts once."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{file_name}:{index}"))
