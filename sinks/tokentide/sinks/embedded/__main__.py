"""`python -m tokentide.sinks.embedded`: the embedded ClickHouse as a process."""

import argparse
import os
import sys
from pathlib import Path

from tokentide.schemas.errors import SettingsError
from tokentide.sinks.embedded.server import serve


def main() -> int:
    """Serve until a signal; 2 for wrong use."""
    parser = argparse.ArgumentParser("python -m tokentide.sinks.embedded", description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="the folder of the data")
    parser.add_argument("--port", type=int, required=True, help="the port, 0 for a free one")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--user", help="the name that may write; without it everybody may")
    parser.add_argument("--password-env", metavar="VAR", help="the variable that holds its password")
    parser.add_argument("--reader", metavar="NAME", help="a name that may only read, e.g. default")
    parser.add_argument("--reader-password-env", metavar="VAR", help="the variable that holds its password")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="gets the port once it serves")
    given = parser.parse_args()
    try:
        serve(
            given.path,
            given.port,
            host=given.host,
            user=given.user,
            password=_secret(given.password_env),
            reader_user=given.reader,
            reader_password=_secret(given.reader_password_env),
            ready_file=given.ready_file,
        )
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _secret(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise SettingsError(f"the environment variable {variable} is empty: put the password there")
    return os.environ[variable]


if __name__ == "__main__":
    sys.exit(main())
