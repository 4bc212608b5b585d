"""LiteLLM's streams: what has come of one is written where the open call sees it."""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tokentide.producers.instrumentation.open_call import Chunks, open_calls
from tokentide.producers.observation_tally import complain

__all__ = ["watch_google_streams", "watch_streams"]

_MARK = "_tokentide_watched"


class _Stream(NamedTuple):
    """A class of LiteLLM's: where it has the record of its call, and the list of its chunks if it keeps one."""

    module: str
    name: str
    logging: str
    chunks: str | None = None


_STREAMS = (
    _Stream("litellm.litellm_core_utils.streaming_handler", "CustomStreamWrapper", "logging_obj", "chunks"),
    _Stream("litellm.responses.streaming_iterator", "BaseResponsesAPIStreamingIterator", "logging_obj"),
)
_GOOGLE = _Stream(
    "litellm.google_genai.streaming_iterator",
    "BaseGoogleGenAIGenerateContentStreamingIterator",
    "litellm_logging_obj",
    "collected_chunks",
)
# Makes an event of the Responses API out of a line; those LiteLLM does not keep.
_MAKES_EVENT = "_process_chunk"


def watch_streams() -> None:
    """Watch all streams that LiteLLM makes from now on; twice is once. Raises nothing: what it misses it says."""
    for stream in _STREAMS:
        try:
            _watch_class(stream)
        except Exception as error:
            complain("litellm", f"streams of {stream.name} are not watched: {type(error).__name__}")


def watch_google_streams() -> None:
    """Watch those of `generate_content_stream`: when one is about to be made, for they bring LiteLLM's proxy."""
    try:
        _watch_class(_GOOGLE)
    except ImportError:  # then LiteLLM cannot make one either
        pass
    except Exception as error:
        complain("litellm", f"streams of {_GOOGLE.name} are not watched: {type(error).__name__}")


def _watch_class(stream: _Stream) -> None:
    made = getattr(importlib.import_module(stream.module), stream.name)
    if _MARK not in vars(made):
        _watch(made, stream)
        setattr(made, _MARK, True)


def _watch(made: Any, stream: _Stream) -> None:
    begin: Callable[..., None] = made.__init__

    @functools.wraps(begin)
    def watched(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        try:
            calls = open_calls(getattr(self, stream.logging).model_call_details)
            if calls and stream.chunks and type(getattr(self, stream.chunks)) is list:
                setattr(self, stream.chunks, Chunks(getattr(self, stream.chunks)))
            # A chat stream without a stream makes its request when it is read.
            costs = getattr(self, "completion_stream", self) is not None
            for call in calls:
                call.opened(getattr(self, stream.chunks) if stream.chunks else None, costs=costs)
        except Exception as error:
            complain("litellm", error)

    made.__init__ = watched
    if _MAKES_EVENT in vars(made):
        _watch_events(made, stream.logging)


def _watch_events(made: Any, logging: str) -> None:
    make: Callable[..., Any] = getattr(made, _MAKES_EVENT)

    @functools.wraps(make)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        event = make(self, *args, **kwargs)
        try:
            if event is not None:
                for call in open_calls(getattr(self, logging).model_call_details):
                    call.chunk(event)
        except Exception as error:
            complain("litellm", error)
        return event

    setattr(made, _MAKES_EVENT, watched)
