"""What the command line says about a trace, and what it cannot say."""

import pytest

from tokentide.console.trace import Rate, TraceOptions, parse_models, parse_rate, trace_options
from tokentide.schemas import SettingsError


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("max", Rate()),
        ("500", Rate(events_per_second=500)),
        ("0.5", Rate(events_per_second=0.5)),
        ("x10", Rate(speed=10)),
        ("x0.25", Rate(speed=0.25)),
    ],
)
def test_a_rate_is_max_or_events_a_second_or_times_the_recorded_speed(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "x", "fast", "0", "-1", "x0", "nan", "inf", "xinf", "10x", "1,000"])
def test_a_rate_that_is_none_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SettingsError, match=r"is not understood; write max, 500 .* or x10"):
        parse_rate(text)


def test_models_are_given_with_their_provider() -> None:
    assert parse_models("openai/gpt-4o, together/meta-llama/Llama-3-8b") == (
        ("openai", "gpt-4o"),
        ("together", "meta-llama/Llama-3-8b"),
    )


@pytest.mark.parametrize("text", ["", "gpt-4o", "openai/", "/gpt-4o", "openai/gpt-4o,"])
def test_a_model_without_a_provider_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is no provider/model; write for example openai/gpt-4o"):
        parse_models(text)


def test_what_is_not_given_is_the_default() -> None:
    assert trace_options() == TraceOptions()
    assert trace_options(models="openai/o3", users=3, teams=2, start="now") == TraceOptions(
        models=(("openai", "o3"),), users=3, teams=2, start="now"
    )


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        trace_options(users=0, teams=-1, start="tomorrow")

    assert str(raised.value) == (
        "users must be at least 1, not 0; teams must be at least 1, not -1; "
        "start must be original or now, not 'tomorrow'"
    )
