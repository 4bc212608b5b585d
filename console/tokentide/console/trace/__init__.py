"""Recorded traces as usage events: read one, generate one like it, publish it at a chosen rate."""

from tokentide.console.trace.generator import generate_trace
from tokentide.console.trace.options import Rate, TraceOptions, parse_models, parse_rate, trace_options
from tokentide.console.trace.pacer import Pacer
from tokentide.console.trace.reader import read_trace
from tokentide.console.trace.replay import ReplayResult, replay

__all__ = [
    "Pacer",
    "Rate",
    "ReplayResult",
    "TraceOptions",
    "generate_trace",
    "parse_models",
    "parse_rate",
    "read_trace",
    "replay",
    "trace_options",
]
