"""The HTTP door for services that are not written in Python: POST /v1/usage, answered when Kafka has stored it."""

from tokentide.console.ingest.server import run_ingest
from tokentide.console.ingest.settings import IngestSettings

__all__ = ["IngestSettings", "run_ingest"]
