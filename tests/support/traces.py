"""The recorded trace, where it is at hand, and slow, obvious arithmetic over traces."""

import csv
from pathlib import Path
from typing import NamedTuple

__all__ = ["REAL_TRACE", "WITHOUT_IT", "Row", "trace_rows"]

# Beside the repository; its licence lets us read it, and we do not copy it.
REAL_TRACE = Path(__file__).parents[3] / "shared" / "data" / "azure_llm_inference_2023_conv.csv"
WITHOUT_IT = f"the recorded trace is not at {REAL_TRACE}: the generated one stands in for it"


class Row(NamedTuple):
    """One call of a trace, as the file says it."""

    moment: str
    input_tokens: int
    output_tokens: int


def trace_rows(path: Path) -> list[Row]:
    """Return all rows of a CSV."""
    with path.open(newline="") as file:
        return [
            Row(row["TIMESTAMP"], int(row["ContextTokens"]), int(row["GeneratedTokens"]))
            for row in csv.DictReader(file)
        ]
