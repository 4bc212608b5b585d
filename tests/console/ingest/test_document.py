"""What docs/ingest.md shows, held against the code."""

import json
import re
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

from support.variables import ROOT

from tokentide.console.ingest import IngestSettings
from tokentide.console.ingest.incoming import MAX_EVENTS, MEDIA_TYPES
from tokentide.console.ingest.keys import ANYBODY, Client, KeyRing
from tokentide.console.ingest.metrics import INGEST_METRICS
from tokentide.console.ingest.reader import Reader
from tokentide.console.ingest.refusal import Accepted
from tokentide.console.ingest.spellings import canonical_fields

DOCUMENT = (ROOT / "docs" / "ingest.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
OF_THE_ENVIRONMENT = {
    field.name: field.default
    for field in fields(IngestSettings)
    if field.name not in ("kafka", "topic", "max_future_seconds")
}


def test_the_documented_defaults_are_those_in_the_code() -> None:
    documented = dict(
        re.findall(r"^\| `TOKENTIDE_INGEST_(\w+)` \| `?([^|`]*?)`? \|", CONFIGURATION, re.MULTILINE)
    )

    assert documented == {
        name.upper(): "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in OF_THE_ENVIRONMENT.items()
    }


def test_it_names_every_metric_with_its_help_text() -> None:
    documented = dict(re.findall(r"^\| `(tokentide_ingest_\w+)` \| ([^|]*) \|", DOCUMENT, re.MULTILINE))

    assert documented == INGEST_METRICS


def test_it_names_the_limits_and_the_media_types() -> None:
    assert f"{MAX_EVENTS:,} events, and {IngestSettings.max_body_bytes // 2**20} MiB" in DOCUMENT
    assert all(f"`{name}`" in DOCUMENT for name in MEDIA_TYPES)


def test_its_request_gets_its_answer() -> None:
    (sent,) = re.findall(r"-d '(.*?)'", DOCUMENT, re.DOTALL)
    (answer,) = re.findall(r"^```json\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)

    (reading,) = Reader(ANYBODY, datetime.now(UTC), source="door", max_future_seconds=3600).read(
        [json.loads(sent)]
    )

    expected = Accepted(accepted=1, event_ids=[reading.event_id])
    assert Accepted.model_validate_json(answer) == expected


def test_every_spelling_that_it_names_is_known() -> None:
    (table,) = re.findall(r"^\| field \| is also \|\n(.*?)\n\n", DOCUMENT, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(\w+)` \| ([^;:|]*)", table, re.MULTILINE)

    spellings = {
        (name, spelling)
        for name, also in rows
        for spelling in re.findall(r"`(\w+)`", also)
        if spelling not in ("metadata", "service")
    }

    assert len(spellings) > 25
    for name, spelling in spellings:
        assert name in canonical_fields({spelling: True})[0], spelling


def test_its_keys_are_read(tmp_path: Path) -> None:
    (keys,) = re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    path = tmp_path / "keys.toml"
    path.write_text(keys)

    ring = KeyRing.read(IngestSettings(keys_file=path))

    assert ring.client_of("at-least-16-characters") == Client("mobile", "mobile-backend", "growth")
