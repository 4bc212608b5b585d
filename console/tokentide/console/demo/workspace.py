"""The temporary directory of a demo."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Workspace"]


class Workspace:
    """A new directory that is removed at the end of its `with` block, unless its logs are worth reading.

    They are when `is_evidence` was set, and when an error (no wish to stop) ends a block in which programs ran;
    `say` is then told where they are.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="tokentide-demo-")).resolve()
        self.is_evidence = False
        self._say = say

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logs = self.path / "logs"
        has_failed = isinstance(error, Exception) and logs.exists()
        if self.is_evidence or has_failed:
            self._say(f"Kept for you to look into: the logs are in {logs}, the data beside them.")
        else:
            shutil.rmtree(self.path, ignore_errors=True)
