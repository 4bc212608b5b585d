"""Calls that are still open when the process ends: each gives its event then."""

import atexit
from collections.abc import Callable
from weakref import WeakMethod

# Imported for its order: what it registers for the end of the process runs after what is registered here.
import tokentide.producers.process  # noqa: F401

__all__ = ["ends_with_the_process"]

Finish = Callable[[BaseException | None], None]

_open: "set[WeakMethod[Finish]]" = set()


def ends_with_the_process(finish: Finish) -> None:
    """Have the bound method called with GeneratorExit at the end of the process, if its object lives until then.

    What a service leaves without closing it may never be freed, or after the producers took their last event.
    """
    _open.add(WeakMethod(finish, _open.discard))


def _finish_all() -> None:
    for reference in _open.copy():
        finish = reference()
        if finish is not None:
            finish(GeneratorExit())


atexit.register(_finish_all)
