"""Traces to read: the recorded one, and one that is generated like it."""

from pathlib import Path

import pytest
from support.traces import REAL_TRACE, WITHOUT_IT

from tokentide.console.trace import generate_trace


@pytest.fixture(scope="session")
def generated_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "generated.csv"
    generate_trace(path)
    return path


@pytest.fixture(scope="session", params=["recorded", "generated"])
def any_trace(request: pytest.FixtureRequest, generated_trace: Path) -> Path:
    """The recorded trace, then the generated one; only the latter where the former is not at hand."""
    if request.param == "generated":
        return generated_trace
    if not REAL_TRACE.exists():
        pytest.skip(WITHOUT_IT)
    return REAL_TRACE
