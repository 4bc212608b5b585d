"""Rejections as people handle them: read from `usage.rejected`, and submitted again so that each counts once.

Where it goes again depends on who refused it:

* A record of `usage.events`, refused by the meter, becomes a new record there: of the same partition, with the id
  that the rejection gives it. So the meter's memory of ids makes one event of any number of retries, by anybody.
* A row of another topic, refused by ClickHouse, is inserted as it is: the totals have counted it already. The
  table's key makes one row of any number of retries.

Then a repeat of the rejection that has `retried_at` is written, and later retries say that it was done. A crash
before it loses the note only.
"""

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import TypeAdapter, ValidationError

from tokentide.console.audit.log import TopicLog
from tokentide.console.publish import Outgoing, publish
from tokentide.console.settings import ConsoleSettings
from tokentide.schemas import (
    InvalidEventError,
    Rejected,
    SettingsError,
    UsageEvent,
)
from tokentide.schemas.usage import EventId
from tokentide.sinks import ALERTS, SPEND, USAGE, ClickHouseWriter, Landing, Record, RowRefusedError

__all__ = ["RETRY_HEADER", "Outcome", "RejectedBook", "event_id_of", "mended_event", "parse_place", "retry"]

RETRY_HEADER = "tokentide-retry-of"
"""On a record of the events topic: the place of the rejection that it is submitted again for."""

_IDS = uuid.UUID("5f2b6d0c-6a50-5d0e-9d3b-0c1f5a3f7e11")
_EVENT_ID = TypeAdapter(EventId)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SHORT_PLACE = re.compile(r"(\d+):(\d+)")
_LONG_PLACE = re.compile(r".+/\d+/\d+(/\d+)?")


@dataclass
class RejectedBook:
    """The rejections by place, in the order of the topic; when each was retried; what could not be read.

    Of a place that stands there several times the first counts.
    """

    rejections: dict[str, Rejected] = field(default_factory=dict)
    retried_at: dict[str, datetime] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(
        cls, settings: ConsoleSettings, keeps_value: Callable[[Rejected], bool] = lambda _: False
    ) -> "RejectedBook":
        """Read the whole topic; of others than `keeps_value` names the values are let go: they may be large.

        Raises SettingsError for a missing topic, ServiceUnavailableError when Kafka does not answer.
        """
        book = cls()
        with closing(TopicLog(settings.kafka, settings.topics.rejected)) as log:
            for record in log.records():
                where = f"{settings.topics.rejected}[{record.partition}]@{record.offset}"
                book.add(record.value, where, keeps_value)
        return book

    def add(
        self, value: bytes | None, where: str, keeps_value: Callable[[Rejected], bool] = lambda _: True
    ) -> None:
        """Take in the next record of the topic; one that is no rejection becomes a problem."""
        try:
            reject = Rejected.model_validate_json(value or b"")
        except ValidationError as error:
            self.problems.append(f"{where} is no rejection: {error.errors()[0]['msg']}")
            return
        if reject.retried_at is not None:
            self.retried_at.setdefault(reject.place, reject.retried_at)
        if reject.place not in self.rejections:
            kept = reject if keeps_value(reject) else reject.model_copy(update={"value": None})
            self.rejections[reject.place] = kept

    def find(self, place: str) -> Rejected:
        """Return the rejection; raises SettingsError when there is none."""
        try:
            return self.rejections[place]
        except KeyError:
            raise SettingsError(
                f"There is no rejection {place}; `tokentide rejected list` shows those there are."
            ) from None


@dataclass(frozen=True)
class Outcome:
    """What became of one retry."""

    place: str
    is_done: bool
    words: str


def parse_place(text: str, events_topic: str) -> str:
    """Return the name of a rejection; raises SettingsError for what is none. `2:17` is short for the events topic."""
    short = _SHORT_PLACE.fullmatch(text)
    if short is not None:
        return f"{events_topic}/{int(short[1])}/{int(short[2])}"
    if _LONG_PLACE.fullmatch(text):
        return text
    raise SettingsError(
        f"{text!r} names no rejection; say PARTITION:OFFSET or TOPIC/PARTITION/OFFSET, as "
        "`tokentide rejected list` does."
    )


def event_id_of(reject: Rejected) -> str:
    """Return the id under which a rejection is submitted again, by anybody: its own, else one made of its place."""
    raw = _fields(reject.value).get("event_id")
    try:
        return _EVENT_ID.validate_json(bytes(raw) if raw is not None else b"null")
    except ValidationError:
        return str(uuid.uuid5(_IDS, reject.place))


def mended_event(reject: Rejected, mended: bytes | None = None) -> bytes:
    """Return the record that goes to the events topic again, in the words of `mended` or else its own.

    Raises InvalidEventError for what the meter would reject again, SettingsError for another event's id.
    """
    content = _fields(reject.value if mended is None else mended)
    event_id = event_id_of(reject)
    given = content.get("event_id")
    if mended is not None and given is not None and msgspec.json.decode(given) != event_id:
        raise SettingsError(
            f"The mended event of {reject.place} must have the event_id {event_id}, or none: another id would count "
            "once more."
        )
    # Raw: what is not mended stays as it was sent, to the last digit.
    value = msgspec.json.encode({**content, "event_id": event_id}) if content else mended or reject.value
    try:
        UsageEvent.from_wire(value)
    except InvalidEventError as error:
        raise InvalidEventError(
            f"{reject.place} is still no usage event, and nothing was sent ({error}); mend it in a file "
            "and give --file"
        ) from error
    assert value is not None
    return value


def retry(
    settings: ConsoleSettings, book: RejectedBook, places: Iterable[str], mended: bytes | None = None
) -> Iterator[Outcome]:
    """Submit the rejections again, one by one; yield what became of each when it is stored.

    Raises SettingsError for wrong use, ServiceUnavailableError when Kafka or ClickHouse does not answer.
    """
    topics = settings.topics
    landings: dict[str, Landing[Any]] = {topics.priced: USAGE, topics.spend: SPEND, topics.alerts: ALERTS}
    for place in places:
        reject = book.find(place)
        if place in book.retried_at:
            yield Outcome(
                place,
                True,
                f"was submitted again at {book.retried_at[place]:%Y-%m-%d %H:%M:%S} UTC; nothing is sent",
            )
            continue
        try:
            if reject.topic == topics.events:
                words = _send_event(settings, reject, mended)
            elif reject.topic in landings:
                words = _insert(settings, landings[reject.topic], reject, mended)
            else:
                raise SettingsError(f"{place} is of no topic that this pipeline can submit to again.")
        except (InvalidEventError, RowRefusedError) as error:
            yield Outcome(place, False, str(error))
            continue
        note = reject.model_copy(update={"key": None, "value": None, "retried_at": datetime.now(UTC)})
        _store(
            settings,
            topics.rejected,
            Outgoing(place.encode(), note.model_dump_json().encode(), reject.partition),
        )
        yield Outcome(place, True, words)


def _send_event(settings: ConsoleSettings, reject: Rejected, mended: bytes | None) -> str:
    """Send the event; its key is the rejected record's, and its partition stays: there its id is remembered."""
    retry_of = (RETRY_HEADER, reject.place.encode())
    record = Outgoing(reject.key, mended_event(reject, mended), reject.partition, (retry_of,))
    offset = _store(settings, settings.topics.events, record)
    return f"is submitted again as {reject.partition}:{offset}, event {event_id_of(reject)}"


def _store(settings: ConsoleSettings, topic: str, record: Outgoing) -> int | None:
    return publish(settings.kafka, topic, [record], "retry again, it counts once")


def _insert(settings: ConsoleSettings, landing: Landing[Any], reject: Rejected, mended: bytes | None) -> str:
    if mended is not None:
        raise SettingsError(
            f"{reject.place} is counted in the totals as it is, so it cannot be mended: change the table that "
            "refuses it, and retry without --file."
        )
    content = landing.decode(Record(reject.partition, reject.offset, reject.value or b""))
    rows = landing.build([content], reject.place)
    ClickHouseWriter(settings.clickhouse).insert(landing.table, rows, f"retry/{reject.place}")
    return f"is stored in {landing.table}"


def _fields(value: bytes | None) -> dict[str, msgspec.Raw]:
    """Return the fields of a JSON object, none of anything else."""
    try:
        return _FIELDS.decode(value or b"")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
