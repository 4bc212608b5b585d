"""Estimates by tiktoken, held against what tiktoken itself says of the whole text."""

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import tiktoken
from support.encodings import CL100K, FILES
from support.model_server import Recorder

from tokentide.producers.extraction import ChunkReader, extract, tokenizer
from tokentide.producers.extraction.said import Said
from tokentide.producers.instrumentation.observe import estimated_tokens
from tokentide.producers.observation import Observation

SECRET = "Wir schließen uns dem Antrag an: 12,345.67 € — naïve 日本語, 🦊! "
ASKED = "Summarize the following, please: it's the committee's 3rd minutes…\n\n"
REASONED = "First the motion; then who seconded it."


@pytest.fixture(scope="module")
def oracle() -> dict[str, tiktoken.Encoding]:
    """tiktoken's encodings, loaded by tiktoken; its own registry stays as empty as it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(FILES))
        patch.setattr(tiktoken.registry, "ENCODINGS", {})
        return {name: tiktoken.get_encoding(name) for name in ("cl100k_base", "o200k_base")}


def loaded(folder: Path, *models: str) -> tokenizer._Encodings:
    """What a process has behind its first estimates for these models."""
    encodings = tokenizer._Encodings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        for model in models:
            encodings.find(model)
            until(lambda: bool(encodings._idle))
    return encodings


def until(done: Callable[[], bool]) -> None:
    """Wait for a thread, at most ten seconds."""
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(scope="module")
def encodings() -> tokenizer._Encodings:
    """Both encodings, loaded as a service's estimates load them."""
    return loaded(FILES, "gpt-4o", "gpt-4")


@pytest.fixture
def ready(encodings: tokenizer._Encodings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has both encodings, for one test."""
    monkeypatch.setattr(tokenizer, "_encodings", encodings)


MESSAGES = [{"role": "user", "content": ASKED}]
CONTENTS = [{"role": "user", "parts": [{"text": ASKED}]}]

# By provider and operation: model, its encoding, request, and the answer around a text.
WHOLE: dict[str, tuple[str, str, dict[str, Any], Callable[[str], Any]]] = {
    "openai chat": ("gpt-4o", "o200k_base", {"messages": MESSAGES}, lambda text: {
        "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}),
    "openai old": ("gpt-4-0613", "cl100k_base", {"messages": MESSAGES}, lambda text: {
        "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}),
    "openrouter chat": ("openai/gpt-4", "cl100k_base", {"messages": MESSAGES}, lambda text: {
        "object": "chat.completion", "choices": [{"message": {"content": text}}]}),
    "groq chat": ("openai/gpt-oss-20b", "o200k_base", {"messages": MESSAGES}, lambda text: {
        "object": "chat.completion", "choices": [{"message": {"content": text}}]}),
    "openai responses": ("gpt-4.1", "o200k_base", {"input": ASKED}, lambda text: {
        "object": "response", "output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]}),
    "openai transcription": ("whisper-9", "o200k_base", {}, lambda text: text),
    "anthropic chat": ("claude-haiku-4-5", "o200k_base", {"messages": MESSAGES}, lambda text: {
        "type": "message", "content": [{"type": "text", "text": text}]}),
    "google chat": ("gemini-2.5-flash", "o200k_base", {"contents": CONTENTS}, lambda text: {
        "candidates": [{"content": {"parts": [{"text": text}]}}]}),
    "google interactions": ("gemini-3-pro", "o200k_base", {"input": ASKED}, lambda text: {
        "object": "interaction", "outputs": [{"type": "text", "text": text}]}),
    "aws chat": ("amazon.nova-lite-v1:0", "o200k_base", {"messages": [{"content": [{"text": ASKED}]}]}, lambda text: {
        "stopReason": "end_turn", "output": {"message": {"content": [{"text": text}]}}}),
    "cohere chat": ("command-a", "o200k_base", {"messages": MESSAGES}, lambda text: {
        "message": {"content": [{"type": "text", "text": text}]}}),
    "ollama chat": ("llama3.2", "o200k_base", {"messages": MESSAGES}, lambda text: {
        "message": {"content": text}, "done": False}),
    "langchain chat": ("some-model", "o200k_base", {"messages": MESSAGES}, lambda text: {
        "content": text, "response_metadata": {"model_name": "some-model"}}),
    "other chat": ("nobody-knows", "o200k_base", {"messages": MESSAGES}, lambda text: text),
}  # fmt: skip

# By the name in WHOLE: one chunk of a stream around a piece of the text.
STREAMED: dict[str, Callable[[str], Any]] = {
    "openai chat": lambda piece: {
        "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": piece}}]},
    "openai old": lambda piece: {"object": "text_completion", "choices": [{"index": 0, "text": piece}]},
    "openai responses": lambda piece: {
        "type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": piece},
    "openai transcription": lambda piece: {"type": "transcript.text.delta", "delta": piece},
    "anthropic chat": lambda piece: {
        "type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}},
    "google chat": lambda piece: {"candidates": [{"content": {"parts": [{"text": piece}]}}]},
    "google interactions": lambda piece: {"event_type": "step.delta", "index": 0, "delta": {"text": piece}},
    "aws chat": lambda piece: {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": piece}}},
    "cohere chat": lambda piece: {
        "type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}},
    "ollama chat": lambda piece: {"message": {"content": piece}, "done": False},
    "langchain chat": lambda piece: {"content": piece, "response_metadata": {}},
}  # fmt: skip


def call_of(name: str) -> dict[str, Any]:
    """The arguments of `extract` for one of WHOLE."""
    provider, operation = name.split()
    model, _, request, _ = WHOLE[name]
    operation = operation if operation in ("responses", "transcription") else "chat"
    return {"provider": provider, "model": model, "api_operation": operation, "request": request}


def pieces(text: str, size: int = 3) -> Iterator[str]:
    """The text in pieces that end anywhere, also inside of words and tokens."""
    for start in range(0, len(text), size):
        yield text[start : start + size]


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_without_usage_has_as_many_tokens_as_tiktoken_says(
    name: str, oracle: dict[str, tiktoken.Encoding]
) -> None:
    _, encoding, request, answer = WHOLE[name]
    text = SECRET * 20

    usage = extract(answer(text), **call_of(name))

    assert usage.output_tokens == len(oracle[encoding].encode(text))
    assert usage.input_tokens == (len(oracle[encoding].encode(ASKED)) if request else 0)
    assert usage.usage_status == "estimated"
    assert SECRET[:9] not in repr(usage) + repr(usage.fields())


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_has_as_many_tokens_as_tiktoken_says_wherever_it_stops(
    name: str, oracle: dict[str, tiktoken.Encoding]
) -> None:
    reader = ChunkReader(**call_of(name))
    encoding = oracle[WHOLE[name][1]]
    said = ""

    for piece in pieces(SECRET * 3):
        reader.add(STREAMED[name](piece))
        said += piece

        assert reader.usage().output_tokens == len(encoding.encode(said))
    assert reader.usage().usage_status == "estimated"


@pytest.mark.usefixtures("ready")
def test_answers_that_come_side_by_side_are_counted_each_for_itself(
    oracle: dict[str, tiktoken.Encoding],
) -> None:
    reader = ChunkReader("openai", model="gpt-4o")
    texts = {(0, "content"): SECRET, (1, "content"): ASKED, (1, "reasoning"): REASONED}

    for number in range(30):
        for (index, field), text in texts.items():
            piece = text[4 * number : 4 * number + 4]
            reader.add({"choices": [{"index": index, "delta": {field: piece}}]})

    assert reader.usage().output_tokens == sum(
        len(oracle["o200k_base"].encode(text)) for text in texts.values()
    )


@pytest.mark.usefixtures("ready")
def test_messages_and_tools_of_a_request_are_counted_each_for_itself(
    oracle: dict[str, tiktoken.Encoding],
) -> None:
    request = {
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "and kind"}],
        "tools": [{"type": "function", "function": {"name": "look_up"}}],
    }
    texts = ["Be brief", "and kind", '[{"type": "function", "function": {"name": "look_up"}}]']

    usage = extract({"choices": []}, "openai", model="gpt-4o", request=request)

    assert usage.input_tokens == sum(len(oracle["o200k_base"].encode(text)) for text in texts)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("streamed", [True, False])
def test_a_long_text_has_as_many_tokens_a_character_as_its_first_16_000(
    streamed: bool, oracle: dict[str, tiktoken.Encoding]
) -> None:
    text = SECRET * 1000 + "x" * 30_000
    head = len(oracle["o200k_base"].encode(text[:16_000]))
    chunk = STREAMED["openai chat"]
    answer = [chunk(piece) for piece in pieces(text, 500)] if streamed else WHOLE["openai chat"][3](text)

    usage = extract(answer, "openai", model="gpt-4o")

    assert usage.output_tokens == -(-head * len(text) // 16_000)
    assert usage.usage_status == "estimated"


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("sign", ["a", " ", "\n", "0", "-", "🦊", "日", "\ufffd", "\ud83e.", "_.", "a\u0301"])
def test_no_text_takes_long(sign: str) -> None:
    text = sign * 16_000
    started = time.perf_counter()

    usage = extract(WHOLE["openai chat"][3](text), "openai", model="gpt-4o")

    # Milliseconds; seconds with a tiktoken whose time grows with the square of the text.
    assert time.perf_counter() - started < 0.5
    assert usage.output_tokens > 0


@pytest.mark.usefixtures("ready")
def test_many_short_texts_are_counted_by_the_first_of_them() -> None:
    request = {"input": ["hello world"] * 5000}

    usage = extract({"data": []}, "openai", model="gpt-4o", api_operation="embeddings", request=request)

    assert usage.input_tokens == 10_000


def test_the_nearest_encoding_serves_where_the_exact_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, oracle: dict[str, tiktoken.Encoding]
) -> None:
    (tmp_path / CL100K).symlink_to(FILES / CL100K)
    monkeypatch.setattr(tokenizer, "_encodings", loaded(tmp_path, "gpt-4o", "text-davinci-003"))

    for model in ("gpt-4o", "text-davinci-003", "claude-haiku-4-5"):
        assert tokenizer.tokens_in([SECRET], model) == len(oracle["cl100k_base"].encode(SECRET))


def test_an_encoding_that_the_service_loaded_serves_at_once(
    monkeypatch: pytest.MonkeyPatch, oracle: dict[str, tiktoken.Encoding]
) -> None:
    monkeypatch.setattr(tokenizer, "_encodings", tokenizer._Encodings())
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", dict(oracle))

    usage = extract(WHOLE["openai old"][3](SECRET), "openai", model="gpt-4")

    assert usage.output_tokens == len(oracle["cl100k_base"].encode(SECRET))


def test_a_stream_that_began_before_the_encoding_came_is_a_quarter_of_its_characters(
    encodings: tokenizer._Encodings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ChunkReader("openai", model="gpt-4o")
    reader.add(STREAMED["openai chat"](SECRET))

    monkeypatch.setattr(tokenizer, "_encodings", encodings)
    reader.add(STREAMED["openai chat"](SECRET))

    assert reader.usage().output_tokens == -(-2 * len(SECRET) // 4)


@pytest.mark.usefixtures("ready")
def test_the_guard_is_told_a_quarter_of_the_characters() -> None:
    assert estimated_tokens({"messages": MESSAGES, "max_tokens": 100}) == -(-len(ASKED) // 4) + 100


@pytest.mark.usefixtures("ready")
def test_a_usage_that_was_reported_is_taken_as_it_is() -> None:
    answer = {**WHOLE["openai chat"][3](SECRET), "usage": {"prompt_tokens": 1, "completion_tokens": 2}}

    usage = extract(answer, **call_of("openai chat"))

    assert (usage.input_tokens, usage.output_tokens, usage.usage_status) == (1, 2, "exact")


def texts_behind(root: object) -> Iterator[str]:
    """Every text that can be reached from the object, without classes, functions and modules."""
    seen: set[int] = set()
    left = [root]
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, type | FunctionType | ModuleType):
            continue
        seen.add(id(each))
        if isinstance(each, str):
            yield each
        left.extend(gc.get_referents(each))


def test_without_an_encoding_nothing_of_the_text_is_kept() -> None:
    reader = ChunkReader("openai", model="gpt-4o")

    for piece in pieces(SECRET * 9, len(SECRET)):
        reader.add(STREAMED["openai chat"](piece))

    assert reader.usage().output_tokens > 0
    assert not any(SECRET[:9] in text for text in texts_behind(reader))


@pytest.mark.usefixtures("ready")
def test_with_one_only_the_beginning_is_kept_and_never_shown() -> None:
    reader = ChunkReader("openai", model="gpt-4o")
    said = Said([SECRET])

    for piece in pieces(SECRET * 1000, len(SECRET)):
        reader.add(STREAMED["openai chat"](piece))

    assert sum(len(text) for text in texts_behind(reader) if SECRET.startswith(text[:9])) <= 16_000
    assert not any(SECRET[:9] in text for text in texts_behind(reader.usage()))
    assert repr(said) == f"Said({len(SECRET)} characters)"


@pytest.mark.usefixtures("ready")
def test_nothing_of_the_text_is_left_when_the_event_is_sent(oracle: dict[str, tiktoken.Encoding]) -> None:
    recorder = Recorder()
    observation = Observation(recorder, "openai", "chat", {"model": "gpt-4o"}, stream=True)

    for piece in pieces(SECRET, len(SECRET)):
        observation.chunk(STREAMED["openai chat"](piece))
    observation.end(GeneratorExit())

    assert recorder.only()["output_tokens"] == len(oracle["o200k_base"].encode(SECRET))
    assert recorder.only()["estimated"]
    assert not any(SECRET[:9] in text for text in texts_behind([observation, recorder.events]))
