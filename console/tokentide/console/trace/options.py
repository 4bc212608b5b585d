"""How a trace becomes usage events, and how fast they are published."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from tokentide.schemas import SettingsError

__all__ = ["DEFAULT_MODELS", "Rate", "TraceOptions", "parse_models", "parse_rate", "trace_options"]

DEFAULT_MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-flash"),
)
_MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast to publish: so many events a second, or a multiple of the recorded speed; neither is: at once."""

    events_per_second: float | None = None
    speed: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.events_per_second, self.speed) if value is not None]
        if len(given) > 1 or any(not (math.isfinite(value) and value > 0) for value in given):
            raise SettingsError(
                "a rate is either events_per_second or speed, and greater than zero; give one of them"
            )


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What the trace itself does not say: models, users, teams, and when it happens.

    Raises SettingsError that names every problem at once.
    """

    models: tuple[tuple[str, str], ...] = DEFAULT_MODELS
    users: int = 200
    teams: int = 8
    start: Literal["original", "now"] = "original"

    def __post_init__(self) -> None:
        problems = []
        if not self.models:
            problems.append("models must name at least one provider/model")
        problems += [
            f"the model {f'{provider}/{model}'!r} must be provider/model, each of 1 to {_MAX_NAME} "
            "characters without control characters"
            for provider, model in self.models
            if not (_is_name(provider) and _is_name(model))
        ]
        if self.users < 1:
            problems.append(f"users must be at least 1, not {self.users}")
        if self.teams < 1:
            problems.append(f"teams must be at least 1, not {self.teams}")
        if self.start not in ("original", "now"):
            problems.append(f"start must be original or now, not {self.start!r}")
        if problems:
            raise SettingsError("; ".join(problems))


def trace_options(
    *, models: str | None = None, users: int | None = None, teams: int | None = None, start: str = "original"
) -> TraceOptions:
    """Return the options that a command line gives; None stands for the default.

    Raises SettingsError as `parse_models` and TraceOptions do.
    """
    given: dict[str, Any] = {
        "models": parse_models(models) if models is not None else None,
        "users": users,
        "teams": teams,
        "start": start,
    }
    return TraceOptions(**{name: value for name, value in given.items() if value is not None})


def parse_models(text: str) -> tuple[tuple[str, str], ...]:
    """Return the models of `provider/model,provider/model`; a model's own name may hold further slashes.

    Raises SettingsError that names the first entry that is no provider/model.
    """
    models = []
    for entry in text.split(","):
        provider, slash, model = entry.strip().partition("/")
        if not (slash and provider and model):
            raise SettingsError(f"{entry.strip()!r} is no provider/model; write for example openai/gpt-4o")
        models.append((provider, model))
    return tuple(models)


def parse_rate(text: str) -> Rate:
    """Return the rate of `max`, `N` (events a second) or `xN` (times the recorded speed).

    Raises SettingsError for anything else.
    """
    if text == "max":
        return Rate()
    relative = text.startswith("x")
    try:
        number = float(text[1:] if relative else text)
        return Rate(speed=number) if relative else Rate(events_per_second=number)
    except (ValueError, SettingsError):
        raise SettingsError(
            f"the rate {text!r} is not understood; write max, 500 (events a second) or x10 (times the "
            "recorded speed), greater than zero"
        ) from None


def _is_name(text: str) -> bool:
    return 1 <= len(text) <= _MAX_NAME and all(character > "\x1f" for character in text)
