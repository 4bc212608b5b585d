"""From what a client sent to the usage events that it means."""

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pydantic_core import PydanticSerializationError, to_json

from tokentide.console.ingest.incoming import ATTRIBUTES, Incoming, unwrapped
from tokentide.console.ingest.keys import Client
from tokentide.console.ingest.refusal import Problem
from tokentide.console.ingest.spellings import canonical_fields, spelt_as_sent
from tokentide.producers.cloud_event import Record, record_of
from tokentide.producers.usage import event_id_of, names_a_call
from tokentide.schemas import InvalidEventError, UsageEvent, new_event_id
from tokentide.schemas.provider import canonical_provider
from tokentide.schemas.usage import MAX_METADATA_BYTES

__all__ = ["Reader", "Reading"]

# More than any event has. Its model needs seconds for a large one, in which nobody else is served.
_MOST_BYTES = 256 * 1024
_NAMESPACE = uuid.UUID("5b0f3f8e-6b6a-4d0e-9a55-3f5c7d1c2a10")


class Reading(NamedTuple):
    """What became of one event of a request: a record with its id, or a problem."""

    event_id: str | None
    record: Record | None
    problem: Problem | None


class Reader:
    """Reads the events of one request, in their order."""

    def __init__(
        self,
        client: Client,
        now: datetime,
        *,
        source: str,
        max_future_seconds: int,
        idempotency_key: str | None = None,
    ) -> None:
        """`now` is the time of events that tell none, `source` the CloudEvents source of those of no service."""
        self._client = client
        self._now = now
        self._defaults = {"timestamp": now.isoformat(), "source": "http"}
        self._source = source
        self._max_future_seconds = max_future_seconds
        self._idempotency_key = idempotency_key
        self._read: dict[str, tuple[int, Record]] = {}

    def read(self, events: Sequence[Any]) -> Iterator[Reading]:
        """Yield what each event is; one that repeats an earlier one of the request is that one again."""
        for index, event in enumerate(events):
            try:
                usage = self._event(index, unwrapped(event))
                record = record_of(usage, self._source)
                first, known = self._read.setdefault(usage.event_id, (index, record))
                if known != record:
                    raise InvalidEventError(
                        f"event_id: event {first} has the same, and is another call; give each call its own"
                    )
            except InvalidEventError as error:
                yield Reading(None, None, Problem(index=index, problem=str(error)))
            else:
                yield Reading(usage.event_id, record if first == index else None, None)

    def _event(self, index: int, incoming: Incoming) -> UsageEvent:
        fields, spelt = canonical_fields(incoming.usage)
        envelope = canonical_fields(incoming.envelope)[0] if incoming.envelope else {}
        spelt = {**{name: ATTRIBUTES[name] for name in envelope}, **spelt}
        fields = {**self._defaults, **envelope, **fields}
        self._bind(fields)
        if "provider" not in fields:
            raise InvalidEventError("provider: missing; say who sells the model, for example openai")
        if "event_id" not in fields:
            fields["event_id"] = self._event_id(index, fields, incoming.origin)
        try:
            wire = to_json(fields)
            if len(wire) > _MOST_BYTES:
                raise InvalidEventError(
                    f"the event has {len(wire)} bytes of JSON, at most {_MOST_BYTES} are read: metadata must fit in "
                    f"{MAX_METADATA_BYTES} bytes"
                )
            usage = UsageEvent.from_wire(wire)
        except InvalidEventError as error:
            raise InvalidEventError(spelt_as_sent(str(error), spelt)) from None
        except PydanticSerializationError as error:
            raise InvalidEventError(f"the event cannot be written as JSON: {error}") from None
        ahead = (usage.timestamp - self._now).total_seconds()
        if ahead > self._max_future_seconds:
            name = spelt.get("timestamp", "timestamp")
            raise InvalidEventError(
                f"{name}: {usage.timestamp.isoformat()} is {ahead:.0f} seconds ahead; at most "
                f"{self._max_future_seconds} are allowed, correct your clock"
            )
        return usage

    def _bind(self, fields: dict[str, Any]) -> None:
        for name, bound in (("service", self._client.service), ("team_id", self._client.team_id)):
            if bound is not None and fields.setdefault(name, bound) != bound:
                raise InvalidEventError(
                    f"{name}: this key may only send for {bound!r}; leave {name} out, or use another key"
                )

    def _event_id(self, index: int, fields: dict[str, Any], origin: tuple[str, str] | None) -> str:
        """Return an id that the same request makes again, where there is anything to make it of."""
        if origin is not None:
            source, name = origin
            # Of source/id it must be plain where the id begins: (a/b, c) is not (a, b/c).
            return event_id_of(source, name.replace("%", "%25").replace("/", "%2F"))
        provider, request_id = fields.get("provider"), fields.get("request_id")
        if isinstance(provider, str) and isinstance(request_id, str) and names_a_call(request_id):
            # As the SDK does: whoever else sees this answer of the provider makes the same event of it.
            return event_id_of(canonical_provider(provider), request_id)
        if self._idempotency_key is not None:
            place = json.dumps([self._client.name, self._idempotency_key, index])
            return str(uuid.uuid5(_NAMESPACE, place))
        return new_event_id()
