"""The clients made by OpenAI's generator: openai (Azure too), anthropic, groq, together, cerebras.

Every method of theirs ends in `client.request(cast_to, options, stream=..., stream_cls=...)`, looked up on the client
at each call (openai 3.57 `_base_client.py`, `SyncAPIClient.post`): that is replaced, on this client alone. Retries
happen inside it, so a call that was retried is one call.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tokentide.producers.instrumentation.addresses import provider_of
from tokentide.producers.instrumentation.endpoints import api_operation_of
from tokentide.producers.instrumentation.include_usage import IncludeUsage
from tokentide.producers.instrumentation.observe import MARK, Observe, Undo
from tokentide.producers.instrumentation.streams import observe_stream
from tokentide.producers.instrumentation.wire import observe_body
from tokentide.producers.left_open import ends_with_the_process
from tokentide.producers.observation import Observation
from tokentide.producers.observation_tally import complain

__all__ = ["wrap"]

_RAW_HEADER = "x-stainless-raw-response"
_COPIES = ("copy", "with_options")
_NEEDED = ("request", "post", "base_url", *_COPIES)


def wrap(client: Any, observe: Observe) -> Undo:
    """Meter the client and the copies it makes. Raises TypeError when it is no client of that generator."""
    missing = [name for name in _NEEDED if not hasattr(client, name)]
    if missing:
        raise TypeError(f"it has no {', '.join(missing)}, which clients of OpenAI's generator have")
    return _wrap(client, observe, set())


def _wrap(client: Any, observe: Observe, refusing: set[str]) -> Undo:
    calls = _Calls(client, observe, IncludeUsage(client, refusing))
    replaced: dict[str, Any] = {"request": calls.arequest if calls.is_async else calls.request}
    replaced |= {name: _metered_copy(getattr(client, name), observe, refusing) for name in _COPIES}
    before = {name: vars(client)[name] for name in replaced if name in vars(client)}
    vars(client).update(replaced)

    def undo() -> None:
        for name in replaced:
            vars(client).pop(name, None)
        vars(client).update(before)

    return undo


def _metered_copy(copy: Callable[..., Any], observe: Observe, refusing: set[str]) -> Callable[..., Any]:
    def metered_copy(*args: Any, **kwargs: Any) -> Any:
        made = copy(*args, **kwargs)
        try:
            if MARK not in vars(made):  # a class of the service itself may make one by means of the other
                setattr(made, MARK, _wrap(made, observe, refusing))
        except Exception as error:
            complain("copy", error)
        return made

    return metered_copy


class _Call:
    """One call: what is sent, what is observed, how the service wants the answer."""

    def __init__(
        self,
        observation: Observation,
        options: Any,
        api_operation: str,
        request: Mapping[str, Any],
        stream: bool,
    ) -> None:
        self.observation = observation
        self.options = options
        self._api_operation = api_operation
        self._request = request
        self.stream = stream
        self.raw = _header(options, _RAW_HEADER)
        self.hides = False
        self._unparsed: Any = None
        parser = getattr(options, "post_parser", None)
        if not stream and callable(parser):
            # It raises when the answer is not what the service wants (cut at its limit, no JSON): that costs, too.
            options.post_parser = self._before(parser)

    def _before(self, parser: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def parse(answer: Any) -> Any:
            self._unparsed = answer
            self._answer(answer, None)
            return parser(answer)

        return parse

    def deliver(self, result: Any) -> Any:
        """Observe what the SDK returns to the service, and return it."""
        try:
            if self.raw == "stream":
                observe_body(result.http_response, self.observation, self._without_usage(None))
            elif self.raw and self.stream:
                self._observe_when_parsed(result)
            elif self.stream:
                self._observe_stream(result)
            else:
                if self.raw:
                    self._answer_of(result.http_response)
                else:
                    self._answer(result if self._unparsed is None else self._unparsed, _request_id(result))
                self.observation.end()
        except Exception as error:
            complain("answer", error)
            self.observation.opened()  # so what it used is estimated, and not taken for nothing
            self.observation.end()
        return result

    def _answer(self, answer: Any, request_id: str | None) -> None:
        if isinstance(answer, str) or self._api_operation == "speech":
            answer = self._without_usage(answer)
        elif self._api_operation == "embeddings" and hasattr(answer, "usage"):
            # Without the vectors: they are large, and tell nothing.
            answer = {"object": "list", "model": getattr(answer, "model", None), "usage": answer.usage}
        self.observation.answer(answer, request_id=request_id)

    def _answer_of(self, response: Any) -> None:
        kind, answer = response.headers.get("content-type", ""), response.content
        if "json" not in kind:
            answer = self._without_usage(response.text if kind.startswith("text/") else None)
        self.observation.answer(answer, request_id=response.headers.get("x-request-id"))

    def _without_usage(self, text: Any) -> dict[str, Any]:
        """Return an answer that tells no usage, as an object: a sound, or the bare text of a transcription."""
        return {"text": text} if isinstance(text, str) else {}

    def _observe_stream(self, stream: Any) -> None:
        n = self._request.get("n")
        choices = n if isinstance(n, int) else 1
        observe_stream(stream, self.observation, choices=choices, hides=self.hides)

    def _observe_when_parsed(self, raw: Any) -> None:
        """Have the stream observed that `raw.parse()` makes; dropped unparsed, it is a stream not read."""
        self.observation.opened()
        parse = raw.parse
        unparsed = _Unparsed(self.observation)

        def observed(stream: Any) -> Any:
            if not unparsed.is_parsed and hasattr(stream, "_iterator"):
                unparsed.is_parsed = True
                try:
                    self._observe_stream(stream)
                except Exception as error:
                    complain("answer", error)
            return stream

        async def when_awaited(stream: Any) -> Any:
            return observed(await stream)

        def parse_observed(*args: Any, **kwargs: Any) -> Any:
            stream = parse(*args, **kwargs)
            return when_awaited(stream) if inspect.isawaitable(stream) else observed(stream)

        raw.parse = parse_observed


class _Unparsed:
    """Ends the observation of a raw streamed answer that nobody parses."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self.is_parsed = False
        ends_with_the_process(self.finish)

    def finish(self, error: BaseException | None) -> None:
        """End the observation, unless the stream does."""
        if not self.is_parsed:
            self._observation.end(error)

    def __del__(self) -> None:
        self.finish(GeneratorExit())


class _Calls:
    """The calls of one client."""

    def __init__(self, client: Any, observe: Observe, include_usage: IncludeUsage) -> None:
        self._request = client.request
        self._observe = observe
        self._client = client
        self._kind: Any = type(client)
        self._include_usage = include_usage
        self.is_async = inspect.iscoroutinefunction(client.request)

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Make the call as `client.request` does."""
        call = self._begin(args, kwargs)
        if call is None:
            return self._request(*args, **kwargs)
        try:
            try:
                result = self._request(*args, **kwargs)
            except Exception as error:
                if not (call.hides and self._include_usage.was_refused(call.options, error)):
                    raise
                call.hides = False
                result = self._request(*args, **kwargs)
        except BaseException as error:
            call.observation.end(error)
            raise
        return call.deliver(result)

    async def arequest(self, *args: Any, **kwargs: Any) -> Any:
        """Make the call as `client.request` of an asynchronous client does."""
        call = self._begin(args, kwargs)
        if call is None:
            return await self._request(*args, **kwargs)
        try:
            try:
                result = await self._request(*args, **kwargs)
            except Exception as error:
                if not (call.hides and self._include_usage.was_refused(call.options, error)):
                    raise
                call.hides = False
                result = await self._request(*args, **kwargs)
        except BaseException as error:
            call.observation.end(error)
            raise
        return call.deliver(result)

    def _begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Call | None:
        """Begin to observe; None when it is no call of a model. Raises only what the guard raises."""
        try:
            options = kwargs["options"] if "options" in kwargs else args[1]
            if str(options.method).lower() != "post":
                return None
            api_operation = api_operation_of(options.url)
            if api_operation is None:
                return None
            provider = provider_of(self._kind, str(self._client.base_url))
            request = _body(options)
            stream = bool(kwargs.get("stream"))
        except Exception as error:
            complain("request", error)
            return None
        observation = self._observe(provider, api_operation, request, stream=stream)
        call = _Call(observation, options, api_operation, request, stream)
        try:
            # Whoever reads the bytes himself (with_streaming_response) would see the chunk: nothing is added there.
            if call.stream and call.raw != "stream":
                call.hides = self._include_usage.add(options, provider)
        except Exception as error:
            complain("request", error)
        return call


def _request_id(result: Any) -> str | None:
    """Return what the x-request-id header said; openai and anthropic keep it with the answer, behind its parser."""
    request_id = getattr(result, "_request_id", None)
    return request_id if isinstance(request_id, str) else None


def _body(options: Any) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for part in (options.json_data, getattr(options, "extra_json", None)):
        if isinstance(part, Mapping):
            body |= part
    return body


def _header(options: Any, name: str) -> str:
    headers = options.headers
    if isinstance(headers, Mapping):
        for key, value in headers.items():
            if key.lower() == name and isinstance(value, str):
                return value
    return ""
