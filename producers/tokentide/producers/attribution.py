"""Who causes the calls of a model, and what for: said once, around the code that makes them."""

import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

from tokentide.producers.complaints import Complaints
from tokentide.producers.process import Renewed

__all__ = [
    "ATTRIBUTABLE",
    "AttributedThreadPoolExecutor",
    "Attribution",
    "attributed",
    "attribution",
    "count_unattributed",
    "current_attribution",
    "unattributed_calls",
]

# Every field of UsageEvent that says who or what for; what a model answered is no attribution.
ATTRIBUTABLE = frozenset(
    {
        *("user_id", "team_id", "org_id", "session_id", "conversation_id", "subscription_tier"),
        *("service", "environment", "region", "operation", "operation_id", "prompt_id", "run_id"),
        *("agent_name", "trace_id", "span_id"),
    }
)
_OWNERS = ("user_id", "team_id", "org_id")
# The bounds of UsageEvent's Label and Tags.
_MAX_LABEL, _MAX_TAG_NAME, _MAX_TAGS = 256, 64, 32
_CONTROL = {code: " " for code in range(32)}

P = ParamSpec("P")
T = TypeVar("T")

_complaints = Complaints()


class Attribution:
    """A context manager, for `with` and `async with`; it may be entered any number of times, by any task."""

    def __init__(self, fields: Mapping[str, str], tags: Mapping[str, str]) -> None:
        self._fields = dict(fields)
        self._tags = dict(tags)

    def inside(self, outer: "_Frame | None") -> "_Frame":
        """Return what is attributed with this inside of `outer`."""
        if outer is None:
            return _Frame(self._fields, self._tags, self, None)
        return _Frame(outer.fields | self._fields, _bounded(outer.tags | self._tags), self, outer)

    def __enter__(self) -> Self:
        _current.set(self.inside(_current.get()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A generator may end in another context than it began in, or while others are inside: then only what is
        # ours goes. (Token.reset would raise, or take theirs along.)
        _current.set(_without(self, _current.get()))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)


class _Frame(NamedTuple):
    """What is attributed inside one `with`, with all that stands around it."""

    fields: dict[str, str]
    tags: dict[str, str]
    owner: Attribution
    outer: "_Frame | None"


_current: ContextVar[_Frame | None] = ContextVar("tokentide_attribution", default=None)


def _without(owner: Attribution, frame: _Frame | None) -> _Frame | None:
    if frame is None or frame.owner is owner:
        return None if frame is None else frame.outer
    outer = _without(owner, frame.outer)
    return frame if outer is frame.outer else frame.owner.inside(outer)


def attribution(
    *,
    user_id: object = None,
    team_id: object = None,
    org_id: object = None,
    operation: object = None,
    session_id: object = None,
    tags: Mapping[str, object] | None = None,
    **more: object,
) -> Attribution:
    """Attribute every call made inside: `with attribution(user_id="ada", operation="summary"): ...`.

    `more` are other fields of `ATTRIBUTABLE`. Nested, the inner one wins field by field, and tags are merged; None
    says nothing, an empty string takes back what an outer one says. asyncio tasks started inside inherit it; for
    threads see `attributed`. Never raises: values become strings, what UsageEvent would refuse is cut to its
    bounds (256 characters, tags of 64 and 256, 32 of them), and a field it does not know is logged and left out.
    """
    named = {
        "user_id": user_id,
        "team_id": team_id,
        "org_id": org_id,
        "operation": operation,
        "session_id": session_id,
    }
    return Attribution(_labels(named | more), _tags(tags))


def current_attribution() -> dict[str, Any]:
    """Return what is attributed here, as keyword arguments for `track()`; empty outside any attribution."""
    frame = _current.get()
    if frame is None:
        return {}
    found: dict[str, Any] = {name: value for name, value in frame.fields.items() if value}
    if frame.tags:
        found["tags"] = dict(frame.tags)
    return found


def attributed(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function with the attribution of this moment, for another thread: `Thread(target=attributed(f))`."""
    frame = _current.get()

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _current.set(frame)
        try:
            return function(*args, **kwargs)
        finally:
            _current.reset(token)

    return call


class AttributedThreadPoolExecutor(ThreadPoolExecutor):
    """A ThreadPoolExecutor whose functions run with the attribution of those who submitted them.

    Also for `loop.run_in_executor` and `loop.set_default_executor`; `asyncio.to_thread` does it by itself.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule the call, as ThreadPoolExecutor does."""
        return super().submit(attributed(fn), *args, **kwargs)


class _Unattributed(Renewed):
    """How many calls nobody answered for."""

    def after_fork(self) -> None:
        """Count anew in a child process, with a lock that no thread of the parent holds."""
        self._lock = threading.RLock()
        self.calls = 0

    def add(self) -> None:
        """Count one more."""
        with self._lock:
            self.calls += 1


_unattributed = _Unattributed()


def count_unattributed(fields: Mapping[str, Any]) -> None:
    """Count the call if its event names neither a user nor a team nor an organisation; it is metered all the same."""
    if not any(fields.get(name) for name in _OWNERS):
        _unattributed.add()


def unattributed_calls() -> int:
    """Return how many calls of this process were metered without user, team and organisation."""
    return _unattributed.calls


def _labels(named: Mapping[str, object]) -> dict[str, str]:
    labels = {}
    for name, value in named.items():
        if name not in ATTRIBUTABLE:
            _complaints.warn("field", f"attribution() knows no field {name[:64]!r}: it was left out")
        elif value is not None:
            labels[name] = _text(value, _MAX_LABEL)
    return labels


def _tags(tags: Mapping[str, object] | None) -> dict[str, str]:
    if not tags:
        return {}
    try:
        texts = {
            _text(name, _MAX_TAG_NAME): _text(value, _MAX_LABEL)
            for name, value in tags.items()
            if value is not None
        }
    except Exception as error:  # no mapping, or one that fails
        _complaints.warn("tags", f"tags were left out: {type(error).__name__}")
        return {}
    texts.pop("", None)
    return _bounded(texts)


def _bounded(tags: dict[str, str]) -> dict[str, str]:
    """Return at most as many tags as an event may have; the later, inner ones stay."""
    if len(tags) <= _MAX_TAGS:
        return tags
    _complaints.warn("tags", f"an event has at most {_MAX_TAGS} tags: {len(tags) - _MAX_TAGS} were left out")
    return dict(list(tags.items())[-_MAX_TAGS:])


def _text(value: object, most: int) -> str:
    try:
        text = value if isinstance(value, str) else str(value)
        text.encode()
    except Exception:  # a value that cannot be written, or half of a surrogate pair
        _complaints.warn("value", f"an attributed {type(value).__name__} cannot be written as text")
        return ""
    if len(text) > most:
        _complaints.warn("value", f"an attributed value was cut to {most} characters")
        text = text[:most]
    return text.translate(_CONTROL)
