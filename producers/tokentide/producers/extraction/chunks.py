"""Answers of any provider, whole or chunk by chunk, become a Usage."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Context, Decimal, localcontext
from typing import Any

from tokentide.producers.complaints import Complaints
from tokentide.producers.extraction.core import usage_of
from tokentide.producers.extraction.families import LIBRARIES, family_of, form_of, meant_by
from tokentide.producers.extraction.openai_usage import provider_of
from tokentide.producers.extraction.plain import plain
from tokentide.producers.extraction.reading import Call, Family, mapping_at
from tokentide.producers.extraction.said import SAID, said_in
from tokentide.producers.usage import Usage
from tokentide.schemas import ApiOperation
from tokentide.schemas.provider import canonical_provider

__all__ = ["ChunkReader", "extract"]

_OPERATIONS = frozenset(ApiOperation)
_EXACT = Context(prec=28)
"""Whatever precision and traps the service has set, money is read as it was said."""
# How a line of an event stream, or of JSON, begins; what a text says may hold more kinds of line ends than these.
_LINES = ("data:", "event:", "id:", "retry:", ":", "{")
_LINE_END = re.compile(r"\r\n|\n|\r")
_complaints = Complaints()


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
    if _is_stream(response):
        for chunk in _until_error(response):
            reader.add(chunk)
        return reader.usage()
    if hasattr(type(response), "__aiter__"):
        raise ValueError("extract() cannot wait for an asynchronous stream; give its chunks to a ChunkReader")
    if hasattr(type(response), "__await__"):
        raise ValueError("extract() cannot wait for an answer; await it first")
    return reader.whole(response)


class ChunkReader:
    """Reads a stream chunk by chunk; keeps counts and lengths. Not thread-safe.

    Of the text it keeps the first 16,000 characters, and those only when there is an encoding to count them.
    """

    def __init__(
        self,
        provider: str | None = None,
        *,
        model: str | None = None,
        api_operation: str | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        self._call = Call(
            canonical_provider(provider) if provider and isinstance(provider, str) else None,
            model if model and isinstance(model, str) else None,
            api_operation if isinstance(api_operation, str) and api_operation in _OPERATIONS else None,
            request if isinstance(request, Mapping) else {},
        )
        self._family: Family | None = None
        self._answer: dict[str, Any] = {}

    def add(self, chunk: Any) -> None:
        """Take the next chunk: a dict, an object of an SDK, or a line of an event stream; never raises."""
        if self._call.api_operation == "speech" and isinstance(chunk, bytes):
            return  # a sound
        try:
            for each in _answers(chunk):
                if SAID in each and self._family is None:  # plain text: nothing but what was said
                    said_in(self._answer).add(each["text"])
                    continue
                if self._family is None and (found := form_of(each, self._call)):
                    self._family, self._answer = found, {}
                family = self._family or meant_by(self._call)
                if family is not None:
                    family.fold(self._answer, each)
        except Exception as error:  # a chunk that surprises us must not end the service's stream
            _complaints.warn("chunk", f"a chunk of a stream was not metered: {type(error).__name__}")

    def usage(self) -> Usage:
        """Return what the chunks so far used; raises ValueError as `extract` does."""
        return self._read(self._answer, self._family or meant_by(self._call))

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

    def _read(self, answer: Mapping[str, Any], family: Family | None = None) -> Usage:
        answer, is_batch = _out_of_batch(answer)
        family = family or family_of(answer, self._call)
        if family is None:
            raise ValueError("no provider's answer looks like this; pass provider= and api_operation=")
        named = self._call
        call = named._replace(
            provider=named.provider or provider_of(answer) or family.provider,
            api_operation=named.api_operation or family.api_operation,
        )
        with localcontext(_EXACT):
            reading = family.read(answer, call)
            if is_batch:
                reading.facts["processing"] = "batch"
            for name in ("provider", "api_operation"):
                if getattr(named, name) and getattr(named, name) not in LIBRARIES:
                    reading.facts.pop(name, None)
            return usage_of(reading, call)


def _out_of_batch(answer: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return the answer, and whether it came in a line of a batch's results (OpenAI's or Anthropic's)."""
    if "custom_id" in answer:
        for path in (("response", "body"), ("result", "message")):
            if body := mapping_at(answer, *path):
                return {key: value for key, value in body.items() if not key.startswith("_")}, True
    return answer, False


def _is_stream(response: Any) -> bool:
    """Whether this holds chunks: a stream of boto3 is no iterator, a model of pydantic iterates and is no stream."""
    kind = type(response)
    if hasattr(kind, "__next__"):
        return True
    return (
        hasattr(kind, "__iter__")
        and not isinstance(response, str | bytes | bytearray | memoryview | Mapping)
        and not hasattr(kind, "__pydantic_fields__")
        and "__fields__" not in vars(kind)
        and not hasattr(kind, "iter_content")  # an HTTP response of requests: its body is the caller's
    )


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
        yield from _objects(plain(response))
        return
    found = _json(response)
    if isinstance(found, dict | list):
        yield from _objects(found)
    elif response.lstrip().startswith(_LINES):
        for line in _LINE_END.split(response):
            yield from _objects(_json(line.removeprefix("data:")))
    else:
        answer: dict[str, Any] = {"text": response}
        said_in(answer).add(response)
        yield answer


def _objects(found: Any) -> Iterator[dict[str, Any]]:
    """Return the objects that were found, without the names that families keep for themselves."""
    for each in found if isinstance(found, list) else [found]:
        if isinstance(each, dict):
            yield {key: value for key, value in _unwrapped(each).items() if not key.startswith("_")}


def _unwrapped(event: dict[str, Any]) -> dict[str, Any]:
    """Return the chunk in an event of Mistral's SDK, or of the stream helper of OpenAI's; all else as it is."""
    for name in ("data", "chunk"):
        chunk = event.get(name)
        if isinstance(chunk, dict) and ("event" in event or isinstance(chunk.get("choices"), list)):
            return chunk
    return event


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
