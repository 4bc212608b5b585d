"""One name for each provider."""

import pytest
from genai_prices.data_snapshot import find_provider_by_id, get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from tokentide.schemas import UsageEvent
from tokentide.schemas.provider import _ALIASES, _CANONICAL, LOCAL_PROVIDERS, canonical_provider

PROVIDERS = {provider.id for provider in get_snapshot().providers}


def test_a_canonical_name_is_the_catalogues_id() -> None:
    assert set(_CANONICAL) - LOCAL_PROVIDERS <= PROVIDERS
    assert not LOCAL_PROVIDERS & PROVIDERS


def test_an_alias_leads_to_a_canonical_name_and_hides_none() -> None:
    assert set(_ALIASES.values()) <= set(_CANONICAL)
    assert not set(_ALIASES) & (PROVIDERS | set(_CANONICAL))


@pytest.mark.parametrize("alias", sorted(_ALIASES))
def test_an_alias_that_the_catalogue_knows_means_the_same_there(alias: str) -> None:
    """But for one: the catalogue takes whatever contains "openai" for OpenAI, also when Azure sells it."""
    found = find_provider_by_id(get_snapshot().providers, alias)

    assert found is None or found.id == _ALIASES[alias] or _ALIASES[alias] == "azure"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("openai", "openai"),
        ("OpenAI", "openai"),
        (" Mistral AI ", "mistral"),
        ("gcp.vertex_ai", "google"),
        ("azure.ai.openai", "azure"),
        ("X-AI", "x-ai"),
        ("Acme AI", "Acme AI"),
        ("groq", "groq"),
        ("", ""),
    ],
)
def test_a_spelling_becomes_the_one_name_and_an_unknown_one_stays(spelling: str, name: str) -> None:
    assert canonical_provider(spelling) == name


@given(st.text(max_size=30) | st.sampled_from([*_ALIASES, *_CANONICAL]).map(str.title))
def test_a_name_stays_when_it_is_read_again(spelling: str) -> None:
    name = canonical_provider(spelling)

    assert canonical_provider(name) == name


def test_an_event_has_the_one_name() -> None:
    event = UsageEvent.model_validate(
        {"timestamp": "2026-11-01T00:00:00Z", "provider": "Claude", "model": "m"}, strict=False
    )

    assert event.provider == "anthropic"
