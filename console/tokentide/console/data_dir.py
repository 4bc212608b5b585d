"""Where a pipeline on this machine keeps its data, unless it is told another place."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["default_data_dir"]


def default_data_dir(variables: Mapping[str, str] | None = None) -> Path:
    """Return where this platform keeps the data of a user's programs, with `tokentide` at its end."""
    known = os.environ if variables is None else variables
    if known.get("XDG_DATA_HOME"):
        return Path(known["XDG_DATA_HOME"]) / "tokentide"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tokentide"
    return Path.home() / ".local" / "share" / "tokentide"
