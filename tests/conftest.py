"""What every test needs: nothing of what whoever runs the tests has at home, and nothing that another test left."""

from pathlib import Path

import pytest
from hypothesis import settings

# What an example takes says nothing where other processes have the machine for a while.
settings.register_profile("tokentide", deadline=None)
settings.load_profile("tokentide")


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs keep their state during one test."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_encodings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates are a quarter of the characters, whatever tiktoken's cache on this machine holds."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
