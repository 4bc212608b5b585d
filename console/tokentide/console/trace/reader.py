"""Reading a trace: an Azure LLM inference trace (CSV), or usage events (JSONL)."""

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from tokentide.console.trace.assignment import assign, trace_event_id
from tokentide.console.trace.options import TraceOptions
from tokentide.schemas import SettingsError, UsageEvent
from tokentide.schemas.usage import EARLIEST, LATEST

__all__ = ["read_trace"]

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
# Far beyond the largest count, and far below where int() refuses.
_MOST_DIGITS = 30


def _utc_now() -> datetime:
    return datetime.now(UTC)


def read_trace(
    path: Path, options: TraceOptions, clock: Callable[[], datetime] = _utc_now
) -> Iterator[UsageEvent]:
    """Yield the events of the trace, one row at a time.

    A file whose first character is `{` holds one UsageEvent a line; any other is a CSV with the columns
    TIMESTAMP (UTC unless it says otherwise, cut to microseconds), ContextTokens and GeneratedTokens.
    Row i of a CSV always gets the same event id, model, user and team; the i-th event of a JSONL file says
    them itself, and gets that event id when it has none. With `start="now"` every timestamp is moved by the
    same amount, so that the latest one is `clock()`; the file is then read twice.

    Raises SettingsError, naming file and line, for whatever cannot be read; rows before it were yielded.
    """
    shift = timedelta(0)
    if options.start == "now":
        shift = clock() - max(event.timestamp for event in _events(path, options))
    for event in _events(path, options):
        yield event if not shift else _moved(path, event, shift)


def _moved(path: Path, event: UsageEvent, shift: timedelta) -> UsageEvent:
    try:
        timestamp = event.timestamp + shift
    except OverflowError:
        timestamp = EARLIEST - timedelta(1)
    if not EARLIEST <= timestamp < LATEST:
        raise SettingsError(
            f"{path}: an event would be moved to before {EARLIEST.year}, for the trace is too long to end now; "
            "use --start original"
        )
    return event.model_copy(update={"timestamp": timestamp})


def _events(path: Path, options: TraceOptions) -> Iterator[UsageEvent]:
    """Yield the events with their own timestamps."""
    if path.exists() and not path.is_file():
        raise SettingsError(f"{path}: a trace is read more than once, so it must be a file on disk")
    try:
        with path.open("rb") as file:
            lines = _lines(path, file)
            first = next(lines, None)
            if first is None:
                raise SettingsError(f"{path}: the file is empty; give a trace with at least one row")
            parse = _json_events if first.lstrip().startswith("{") else _csv_events
            is_empty = True
            for event in parse(path, itertools.chain([first], lines), options):
                is_empty = False
                yield event
            if is_empty:
                raise SettingsError(f"{path}: there are no rows after the header; give at least one")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}") from error


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise SettingsError(
                f"{path}, line {number}: the bytes are not UTF-8 ({error.reason}); save the file as UTF-8"
            ) from None


def _json_events(path: Path, lines: Iterable[str], options: TraceOptions) -> Iterator[UsageEvent]:
    del options  # Events say themselves what the options would assign.
    index = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = UsageEvent.model_validate_json(line)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "the event"
            raise SettingsError(f"{path}, line {number}: {where}: {problem['msg']}") from None
        if "event_id" not in event.model_fields_set:
            event = event.model_copy(update={"event_id": trace_event_id(path.name, index)})
        yield event
        index += 1


def _csv_events(path: Path, lines: Iterable[str], options: TraceOptions) -> Iterator[UsageEvent]:
    rows = csv.reader(lines)
    try:
        header = [name.strip() for name in next(rows)]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise SettingsError(
                f"{path}, line 1: the header lacks {', '.join(missing)}; it must hold {','.join(COLUMNS)}"
            )
        when, context, generated = (header.index(name) for name in COLUMNS)
        index = 0
        for row in rows:
            if not row:
                continue
            place = f"{path}, line {rows.line_num}"
            if len(row) != len(header):
                raise SettingsError(f"{place}: {len(row)} fields, but the header has {len(header)}")
            given = assign(options, index)
            try:
                yield UsageEvent(
                    event_id=trace_event_id(path.name, index),
                    timestamp=_timestamp(place, row[when]),
                    user_id=given.user_id,
                    team_id=given.team_id,
                    provider=given.provider,
                    model=given.model,
                    input_tokens=_count(place, COLUMNS[1], row[context]),
                    output_tokens=_count(place, COLUMNS[2], row[generated]),
                    source="replay",
                )
            except ValidationError as error:
                problem = error.errors(include_url=False, include_input=False)[0]
                raise SettingsError(f"{place}: {problem['loc'][0]}: {problem['msg']}") from None
            index += 1
    except csv.Error as error:
        raise SettingsError(f"{path}, line {rows.line_num}: {error}") from error


def _timestamp(place: str, text: str) -> datetime:
    """Return the moment; digits beyond microseconds are cut off, a time without a zone is UTC."""
    moment = None
    with suppress(ValueError):
        moment = datetime.fromisoformat(text.strip())
    if moment is None:
        raise SettingsError(f"{place}: TIMESTAMP {text!r} is no time like 2023-11-16 18:15:46.6805900")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _count(place: str, column: str, text: str) -> int:
    digits = text.strip()
    if digits.startswith("-") and digits[1:].isdigit():
        raise SettingsError(f"{place}: {column} is {digits}, but a count cannot be negative")
    if not (digits.isascii() and digits.isdigit()):
        raise SettingsError(f"{place}: {column} {text!r} is not a whole number")
    if len(digits) > _MOST_DIGITS:
        raise SettingsError(f"{place}: {column} has {len(digits)} digits, which no count has")
    return int(digits)
