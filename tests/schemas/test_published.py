"""What is published stays what it is: schema files, examples, and the frozen first version of the event."""

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tokentide.schemas import (
    Alert,
    AlertKind,
    AlertLevel,
    Budget,
    BudgetLimit,
    InvalidEventError,
    Limits,
    Period,
    PriceOverride,
    Rejected,
    Scope,
    SpendTotal,
    SpendUpdate,
    Unit,
    UsageEvent,
)
from tokentide.schemas.published import PUBLISHED, make_schema, read_schema
from tokentide.streams.decode import decode

FOLDER = Path(str(resources.files("tokentide.schemas"))) / "json"
EXAMPLES = sorted((FOLDER / "examples" / "usage-event.v1").glob("*.json"))
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)

# Version 1 of the event is frozen. When this digest is wrong, do not paste the new one at once: is every old event
# still valid, with the same meaning, and is every new field optional? Then run `python -m tokentide.schemas`, add an
# example that has the field, and pin the digest. Otherwise leave version 1 alone and publish a version 2 beside it:
# services that were built today go on sending version 1 for months.
DIGEST = "4bece5699a8578b60478c38a252138ac034cfc8ed154ca35e8c611c9d082b1e3"
ADVICE = (
    "usage-event.v1 has changed, and it is frozen: old services keep sending it. A new optional field is fine: run "
    "`python -m tokentide.schemas`, add an example with it and pin the new digest in this file. For anything else "
    "undo the change, or publish a usage-event.v2 beside it."
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_file_is_what_the_model_says(name: str) -> None:
    assert read_schema(name) == make_schema(name), f"run `{Path(sys.executable).name} -m tokentide.schemas`"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_file_is_a_valid_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(read_schema(name))


def test_the_command_writes_the_published_files(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "tokentide.schemas", str(tmp_path / "new")], check=True, timeout=60)

    written = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert written == {path.name: path.read_bytes() for path in FOLDER.glob("*.json")}


def test_version_1_of_the_event_is_frozen() -> None:
    assert hashlib.sha256((FOLDER / "usage-event.v1.json").read_bytes()).hexdigest() == DIGEST, ADVICE


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_of_version_1_is_decoded(path: Path) -> None:
    text = path.read_bytes()
    wanted = json.loads(text)

    event = UsageEvent.from_wire(text)

    read = json.loads(event.model_dump_json())
    moments = {"timestamp", "provider_created"}
    for name in wanted.keys() & set(UsageEvent.model_fields) - moments - {"provider"}:
        assert read[name] == wanted[name]
    for name in moments & wanted.keys():
        assert datetime.fromisoformat(read[name]) == datetime.fromisoformat(wanted[name])
    assert decode([text]).events.moment(0) == event.timestamp
    jsonschema.validate(wanted, read_schema("usage-event.v1"))


def test_the_examples_have_every_field_and_one_that_is_not_known_yet() -> None:
    names = {name for path in EXAMPLES for name in json.loads(path.read_bytes())}

    assert names == {*UsageEvent.model_fields, "a_field_of_the_future"}


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": None},
        {"event_id": ""},
        {"model": "a\nb"},
        {"input_tokens": -1},
        {"input_tokens": 1.5},
        {"schema_version": 2},
        {"status": "ok"},
        {"tags": {"a": 1}},
        {"requests": 0},
    ],
    ids=str,
)
def test_the_published_schema_refuses_what_the_model_refuses(change: dict[str, Any]) -> None:
    event = {**json.loads((FOLDER / "examples/usage-event.v1/minimal.json").read_bytes()), **change}

    with pytest.raises(InvalidEventError):
        UsageEvent.from_wire(json.dumps(event).encode())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(event, read_schema("usage-event.v1"))


@pytest.mark.parametrize("missing", ["event_id", "timestamp", "provider", "model"])
def test_a_record_must_have_what_names_and_prices_a_call(missing: str) -> None:
    event = json.loads((FOLDER / "examples/usage-event.v1/minimal.json").read_bytes())
    del event[missing]

    with pytest.raises(InvalidEventError, match=missing):
        UsageEvent.from_wire(json.dumps(event).encode())
    with pytest.raises(jsonschema.ValidationError, match=missing):
        jsonschema.validate(event, read_schema("usage-event.v1"))


RECORDS = {
    "budget.v1": Budget(budget_id="b", scope=Scope.TEAM, scope_id="t", limit=Decimal("99.5")),
    "alert.v1": Alert(
        alert_id="0" * 32,
        timestamp=NOON,
        kind=AlertKind.THRESHOLD,
        level=AlertLevel.WARNING,
        scope=Scope.USER,
        scope_id="ann",
        period=Period.DAY,
        period_start=NOON,
        period_end=NOON,
        unit=Unit.USD,
        limit=Decimal("0.000000000001"),
        used=Decimal("123456789.123456789012"),
        message="m",
    ),
    "limits.v1": Limits(
        scope=Scope.USER,
        scope_id="ann",
        budgets_version=3,
        version=2**70,
        exceeded=False,
        limits=(
            BudgetLimit(
                budget_id="b",
                unit=Unit.USD,
                limit=Decimal(10),
                used=Decimal("0E-12"),
                left=Decimal("10.000000000000"),
                exceeded=False,
                period=Period.MONTH,
                period_start=NOON,
                until=NOON,
            ),
        ),
    ),
    "price-override.v1": PriceOverride(
        provider="openai",
        model="gpt-4o",
        valid_from=NOON,
        input_usd_per_mtok=Decimal("0.000001"),
        output_usd_per_mtok=Decimal(10),
        usd_per_request=Decimal("1E-12"),
    ),
    "rejected.v1": Rejected(
        topic="usage.events", partition=0, offset=1, timestamp=NOON, reason="r", key=b"a2V5", value=None
    ),
    "spend-update.v1": SpendUpdate(
        scope=Scope.MODEL,
        scope_id="openai/gpt-4o",
        source_partition=0,
        version=7,
        totals=(
            SpendTotal(
                period=Period.HOUR,
                period_start=0,
                requests=1,
                input_tokens=2,
                output_tokens=3,
                cost_pico_usd=2**80,
                unpriced_requests=0,
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_sent_fits_its_published_schema_and_comes_back(name: str) -> None:
    record = RECORDS[name]

    text = record.model_dump_json()

    jsonschema.validate(json.loads(text), read_schema(name))
    assert type(record).model_validate_json(text) == record


@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() - {"usage-event.v1"}))
def test_money_in_json_is_a_string_of_digits(name: str) -> None:
    text = RECORDS[name].model_dump_json()

    def floats(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [found for inner in value.values() for found in floats(inner)]
        if isinstance(value, list):
            return [found for inner in value for found in floats(inner)]
        return [value] if isinstance(value, float) else []

    assert floats(json.loads(text)) == []
    assert "E-" not in text
