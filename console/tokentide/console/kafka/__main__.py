"""`python -m tokentide.console.kafka --data DIR --port N [--nodes 3]`: the embedded Kafka alone."""

import argparse
import sys
from pathlib import Path

from tokentide.console.kafka.foreground import run
from tokentide.schemas.errors import SettingsError, TokentideError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tokentide.console.kafka")
    parser.add_argument("--data", type=Path, required=True, help="directory that keeps the records")
    parser.add_argument("--port", type=int, required=True, help="port of the first node")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    arguments = parser.parse_args()
    try:
        run(arguments.data, arguments.port, arguments.nodes)
    except TokentideError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
