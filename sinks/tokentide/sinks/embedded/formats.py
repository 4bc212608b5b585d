"""Output formats: their content types, and which of them may leave the engine in pieces."""

from collections.abc import Iterable, Iterator

__all__ = ["content_type", "is_streamed", "join_pieces"]

_CONTENT_TYPES = {
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "jsonlines": "application/x-ndjson; charset=UTF-8",
    "ndjson": "application/x-ndjson; charset=UTF-8",
    "json": "application/json; charset=UTF-8",
    "xml": "application/xml; charset=UTF-8",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "arrow": "application/octet-stream",
    "parquet": "application/octet-stream",
}
_ARROW_STREAM = "arrowstream"
# The engine writes every piece as a whole document; of these formats the pieces can be put together again.
_STREAMED = frozenset(
    {
        "tabseparated",
        "tsv",
        "tabseparatedraw",
        "tsvraw",
        "csv",
        "jsoneachrow",
        "jsonlines",
        "ndjson",
        "jsoncompacteachrow",
        "rowbinary",
        "native",
        _ARROW_STREAM,
    }
)
_ARROW_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def content_type(name: str) -> str:
    """The Content-Type of the format `name`, plain text for those without one of their own."""
    lowered = name.lower()
    best = max((key for key in _CONTENT_TYPES if lowered.startswith(key)), key=len, default="")
    return _CONTENT_TYPES.get(best, "text/plain; charset=UTF-8")


def is_streamed(name: str) -> bool:
    """Whether `join_pieces` can put the engine's pieces of the format `name` together."""
    return name.lower() in _STREAMED


def join_pieces(name: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Make one document of the engine's pieces; no piece gives nothing, which has no schema in Arrow."""
    if name.lower() != _ARROW_STREAM:
        yield from pieces
        return
    is_first = True
    for piece in pieces:
        schema_end = 0 if is_first else 8 + int.from_bytes(piece[4:8], "little")
        yield piece[schema_end : -len(_ARROW_END)]
        is_first = False
    if not is_first:
        yield _ARROW_END
