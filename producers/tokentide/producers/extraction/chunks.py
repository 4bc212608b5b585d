"""Answers of any provider, whole or chunk by chunk, become a Usage."""

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from tokentide.producers.extraction.core import usage_of
from tokentide.producers.extraction.families import family_of
from tokentide.producers.extraction.openai_usage import provider_of
from tokentide.producers.extraction.plain import plain
from tokentide.producers.extraction.reading import Call, Family
from tokentide.producers.usage import Usage
from tokentide.schemas import ApiOperation
from tokentide.schemas.provider import canonical_provider

__all__ = ["ChunkReader", "extract"]

_OPERATIONS = frozenset(ApiOperation)


def extract(
    response: Any,
    provider: str | None = None,
    *,
    model: str | None = None,
    api_operation: str | None = None,
    request: Mapping[str, Any] | None = None,
) -> Usage:
    """Return what an answer used: a dict, an object of an SDK, JSON, or all chunks of a stream.

    `provider` is needed where many answer in the same form: without it, and without a sign of another, an answer
    in OpenAI's form is OpenAI's. `request` is the body of the call: for estimates, and for what only it tells
    (characters to speak, size of pictures, Bedrock's model). What the caller names wins over what the answer says
    of provider and operation.

    Raises ValueError when neither the form of the answer nor provider and operation tell how to read it, or
    nothing tells the model. A stream that breaks off with an error is read as far as it came.
    """
    reader = ChunkReader(provider, model=model, api_operation=api_operation, request=request)
    if isinstance(response, list | tuple) or hasattr(type(response), "__next__"):
        for chunk in _until_error(response):
            reader.add(chunk)
        return reader.usage()
    if hasattr(type(response), "__anext__"):
        raise ValueError("extract() cannot wait for an asynchronous stream; give its chunks to a ChunkReader")
    return reader.whole(response)


class ChunkReader:
    """Reads a stream chunk by chunk; keeps counts and lengths, never the text. Not thread-safe."""

    def __init__(
        self,
        provider: str | None = None,
        *,
        model: str | None = None,
        api_operation: str | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        self._call = Call(
            canonical_provider(provider) if provider else None,
            model or None,
            api_operation if api_operation in _OPERATIONS else None,
            request or {},
        )
        self._family: Family | None = None
        self._answer: dict[str, Any] = {}

    def add(self, chunk: Any) -> None:
        """Take the next chunk: a dict, an object of an SDK, or a line of an event stream; never raises."""
        try:
            for each in _answers(chunk):
                self._family = self._family or family_of(each, self._call)
                if self._family is not None:
                    self._family.fold(self._answer, each)
        except Exception:  # a chunk that surprises us must not end the service's stream
            return

    def usage(self) -> Usage:
        """Return what the chunks so far used; raises ValueError as `extract` does."""
        return self._read(self._answer)

    def whole(self, response: Any) -> Usage:
        """Return what a whole answer used; raises ValueError as `extract` does."""
        if self._call.api_operation == "speech" and not isinstance(response, Mapping):
            return self._read({})  # a sound
        answers = list(_answers(response))
        if len(answers) == 1:
            return self._read(answers[0])
        for each in answers:
            self.add(each)
        return self.usage()

    def _read(self, answer: Mapping[str, Any]) -> Usage:
        family = self._family or family_of(answer, self._call)
        if family is None:
            raise ValueError("no provider's answer looks like this; pass provider= and api_operation=")
        named = self._call
        call = named._replace(
            provider=named.provider or provider_of(answer) or family.provider,
            api_operation=named.api_operation or family.api_operation,
        )
        reading = family.read(answer, call)
        for name in ("provider", "api_operation"):
            if getattr(named, name):
                reading.facts.pop(name, None)
        return usage_of(reading, call)


def _until_error(stream: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from stream
    except Exception:  # of the provider, whose error the caller has seen or will see
        return


def _answers(response: Any) -> Iterator[dict[str, Any]]:
    """Return the answer, or the chunks, that an object or a text holds; plain text is an answer's text."""
    if isinstance(response, bytes | bytearray):
        response = response.decode(errors="replace")
    if not isinstance(response, str):
        found = plain(response)
        if isinstance(found, list):
            yield from (each for each in found if isinstance(each, dict))
        elif isinstance(found, dict):
            yield found
        return
    found = _json(response)
    if isinstance(found, dict):
        yield found
    elif isinstance(found, list):
        yield from (each for each in found if isinstance(each, dict))
    elif response.lstrip().startswith(("data:", "event:", ":", "{")):
        for line in response.splitlines():
            found = _json(line.removeprefix("data:"))
            if isinstance(found, dict):
                yield found
    else:
        yield {"text": response, "_output_characters": len(response)}


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
