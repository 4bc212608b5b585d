"""Log lines of a process that serves, on stderr."""

import logging

from tokentide.schemas import Environment, SettingsError

__all__ = ["log_to_stderr"]

_NAME = "TOKENTIDE_LOG_LEVEL"


def log_to_stderr() -> None:
    """Write our lines from `TOKENTIDE_LOG_LEVEL` on, and warnings of others; raises SettingsError for no level."""
    level = Environment().text(_NAME, "INFO")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        logging.getLogger("tokentide").setLevel(level.upper())
    except ValueError as error:
        raise SettingsError(f"{_NAME}={level!r} is none of DEBUG, INFO, WARNING, ERROR.") from error
