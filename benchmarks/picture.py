"""The race as a picture: a bar for each contender's CPU an event on a log scale, as SVG."""

import math
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 760, 150, 70, 62, 26
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 15px; font-weight: 600; }
  .small { font-size: 11px; fill: #59636e; }
  .grid { stroke: #d1d9e0; }
  .bar { fill: #8b949e; }
  .ours { fill: #0969da; }
  .spread { stroke: #1f2328; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .bar { fill: #6e7681; }
    .ours { fill: #4493f8; }
    .spread { stroke: #e6edf3; }
  }
"""


def draw(result: Mapping[str, Any]) -> str:
    """Return the picture of a document of report.py; a contender that failed has its name and no bar."""
    contenders = sorted(
        ((name, each["us_per_event"]) for name, each in result["contenders"].items()),
        key=lambda item: math.inf if item[1] is None else item[1]["median"],
    )
    ends = [each[end] for _, each in contenders if each is not None for end in ("min", "max")]
    low = 10.0 ** math.floor(math.log10(max(min(ends, default=1.0), 0.1)))
    high = max(10.0 ** math.ceil(math.log10(max(max(ends, default=10.0), 0.1))), low * 10)
    span = _WIDTH - _LEFT - _RIGHT

    def x(number: float) -> float:
        share = math.log10(max(number, low) / low) / math.log10(high / low)
        return round(_LEFT + span * share, 1)

    bottom = _TOP + _ROW * len(contenders)
    title = "CPU for an event, in microseconds (log scale; less is better)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 44}" role="img">',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="12" y="24">{title}</text>',
    ]
    parts += _axis(low, high, x, bottom)
    for row, (name, cost) in enumerate(contenders):
        parts += _bar(name, cost, x, _TOP + _ROW * row)
    footer = (
        f"{result['events']:,} events, median of {result['rounds']}, with a line from min to max. "
        f"{result['machine']['cpu']}, {result['machine']['cores']} cores; commit {result['commit']}, "
        f"{result['date'][:10]}"
    )
    parts.append(f'<text class="small" x="12" y="{bottom + 32}">{escape(footer)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _axis(low: float, high: float, x: Any, bottom: int) -> list[str]:
    """A line for each power of ten."""
    powers = range(round(math.log10(low)), round(math.log10(high)) + 1)
    return [
        part
        for tick in (10.0**power for power in powers)
        for part in (
            f'<line class="grid" x1="{x(tick)}" y1="{_TOP - 6}" x2="{x(tick)}" y2="{bottom}"/>',
            f'<text class="small" x="{x(tick)}" y="{_TOP - 12}" text-anchor="middle">{tick:,g}</text>',
        )
    ]


def _bar(name: str, cost: Mapping[str, float] | None, x: Any, top: int) -> list[str]:
    middle, base = top + _ROW / 2, top + _ROW / 2 + 4
    label = f'<text x="{_LEFT - 10}" y="{base}" text-anchor="end">{escape(name)}</text>'
    if cost is None:
        return [label, f'<text class="small" x="{_LEFT + 6}" y="{base}">failed</text>']
    kind = "bar ours" if name.startswith("tokentide") else "bar"
    end = x(cost["median"])
    width = round(end - _LEFT, 1)
    return [
        label,
        f'<rect class="{kind}" x="{_LEFT}" y="{top + 5}" width="{width}" height="{_ROW - 10}" rx="2"/>',
        f'<line class="spread" x1="{x(cost["min"])}" y1="{middle}" x2="{x(cost["max"])}" y2="{middle}"/>',
        f'<text x="{max(end, x(cost["max"])) + 6}" y="{base}">{cost["median"]:,.4g}</text>',
    ]
