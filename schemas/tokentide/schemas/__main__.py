"""`python -m tokentide.schemas [FOLDER]` writes the published JSON Schemas; by default where they are shipped."""

import sys
from pathlib import Path

from tokentide.schemas.published import write_schemas

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "json"
    for path in write_schemas(folder):
        print(path)
