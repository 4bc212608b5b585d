"""Whatever JSON comes: no negative count, no part larger than its whole, no error but ValueError."""

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json
from support.golden import payloads

from tokentide.producers.extraction import ChunkReader, extract
from tokentide.producers.usage import Usage
from tokentide.schemas import UsageEvent

CORPUS = list(payloads("openai"))
OPERATIONS = (None, "chat", "responses", "embeddings", "transcription", "speech", "image", "ocr", "nonsense")
PROVIDERS = (None, "openai", "azure", "x-ai", "perplexity", "anthropic", "google", "aws", "my-server")
ODD = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 50)
    | st.floats()
    | st.decimals()
    | st.sampled_from(["7", "1e999999999", "-3", "1_000", "NaN", "\x00", "\ud800", 10**400, Decimal("1e-30")])
    | st.text(max_size=5)
)
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def names_in(value: Any) -> set[str]:
    """Every key of the value."""
    if isinstance(value, dict):
        return set(value).union(*(names_in(each) for each in value.values()))
    return set().union(*(names_in(each) for each in value)) if isinstance(value, list) else set()


# Objects of the names that mean something, with anything in them.
NAMES = sorted(set().union(*(names_in(each.response) | names_in(each.chunks) for each in CORPUS)))
ANSWERS = st.recursive(
    ODD,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=8)
    ),
    max_leaves=20,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """An answer of the corpus in which some values are replaced."""
    payload = draw(st.sampled_from(CORPUS))

    def change(value: Any) -> Any:
        if draw(st.integers(0, 11)) == 0:
            return draw(JSON)
        if isinstance(value, dict):
            return {key: change(each) for key, each in value.items()}
        return [change(each) for each in value] if isinstance(value, list) else value

    return change(payload.response if payload.chunks is None else payload.chunks)


def check(usage: Usage) -> None:
    """Assert what holds for every usage."""
    buckets = usage.buckets()
    assert all(count >= 0 for count in buckets.values())
    assert sum(buckets.values()) == usage.input_tokens + usage.output_tokens
    assert len(to_json(usage.raw_usage)) <= 4096
    # It checks that parts are no larger than their whole, that counts are in bounds, and all texts and amounts.
    event = UsageEvent.model_validate({"timestamp": "2026-11-01T00:00:00Z", **usage.fields()}, strict=False)
    assert event.total_tokens == sum(buckets.values())


@settings(max_examples=120, deadline=None)
@given(
    answer=JSON | ANSWERS | mutated(),
    provider=st.sampled_from(PROVIDERS),
    operation=st.sampled_from(OPERATIONS),
    request=st.dictionaries(
        st.sampled_from(["model", "input", "messages", "size", "prompt"]), JSON, max_size=3
    ),
)
def test_any_answer(
    answer: Any, provider: str | None, operation: str | None, request: dict[str, Any]
) -> None:
    try:
        usage = extract(answer, provider, model="gpt-4o", api_operation=operation, request=request)
    except ValueError:
        return

    check(usage)


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(JSON | ANSWERS | mutated() | st.binary(max_size=20), max_size=4),
    provider=st.sampled_from(PROVIDERS),
    operation=st.sampled_from(OPERATIONS),
)
def test_any_chunks(chunks: list[Any], provider: str | None, operation: str | None) -> None:
    reader = ChunkReader(provider, model="gpt-4o", api_operation=operation)

    for chunk in chunks:
        reader.add(chunk)

    try:
        usage = reader.usage()
    except ValueError:
        return
    check(usage)


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=50) | st.binary(max_size=50))
def test_any_text(text: str | bytes) -> None:
    check(extract(text, "openai", model="gpt-4o"))
