"""The golden corpus: answers of providers, each with its source, and what they used, worked out by hand.

A file under tests/producers/golden/FAMILY/ holds a list of payloads:
`name`, `source` (the type of an SDK or the document it is built from), `provider`, `api_operation`, `model`,
`request` (all as given to `extract`, each may be absent), `response` (a JSON value; `{"base64": "..."}` for a binary
body) or `chunks`, and `expected`: fields of Usage, with `buckets`. Counts and buckets that are not named are zero;
of other fields only those named are compared. An expected null means None.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tokentide.producers.extraction import ChunkReader, extract
from tokentide.producers.usage import Usage

__all__ = ["GOLDEN", "Payload", "payloads"]

GOLDEN = Path(__file__).parent.parent / "producers" / "golden"
_COUNTS = tuple(each.name for each in fields(Usage) if type(each.default) in (int, Decimal))


@dataclass(frozen=True)
class Payload:
    """One answer of the corpus."""

    file: str
    name: str
    source: str
    call: dict[str, Any]
    response: Any
    chunks: list[Any] | None
    expected: dict[str, Any]

    def extracted(self) -> Usage:
        """Return what `extract` makes of the payload."""
        return extract(self.response if self.chunks is None else self.chunks, **self.call)

    def extracted_by_chunks(self) -> Usage:
        """Return what a ChunkReader makes of the chunks."""
        reader = ChunkReader(**self.call)
        for chunk in self.chunks or ():
            reader.add(chunk)
        return reader.usage()

    def differences(self, usage: Usage) -> dict[str, tuple[Any, Any]]:
        """Return, by field, what was expected and what came instead."""
        expected = dict.fromkeys(_COUNTS, 0) | {"usage_status": "exact"} | self.expected
        buckets = expected.pop("buckets")
        found = {name: count for name, count in usage.buckets().items() if count}
        wrong = {
            name: (value, _plain(getattr(usage, name)))
            for name, value in expected.items()
            if not _equal(value, getattr(usage, name))
        }
        return wrong if found == buckets else {**wrong, "buckets": (buckets, found)}


def payloads(*families: str) -> Iterator[Payload]:
    """Return the payloads of these families, ordered by file."""
    for family in families:
        for path in sorted((GOLDEN / family).glob("*.json")):
            for each in json.loads(path.read_text(), parse_float=Decimal):
                yield Payload(
                    file=f"{family}/{path.stem}",
                    name=each["name"],
                    source=each["source"],
                    call={
                        key: each[key]
                        for key in ("provider", "model", "api_operation", "request")
                        if key in each
                    },
                    response=_body(each.get("response")),
                    chunks=each.get("chunks"),
                    expected=each["expected"],
                )


def _body(response: Any) -> Any:
    if isinstance(response, dict) and response.keys() == {"base64"}:
        return base64.b64decode(response["base64"])
    return response


def _equal(expected: Any, found: Any) -> bool:
    if isinstance(found, Decimal):
        return expected is not None and Decimal(str(expected)) == found
    if isinstance(found, datetime):
        return isinstance(expected, str) and datetime.fromisoformat(expected) == found
    return bool(expected == found)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal | datetime) else value
