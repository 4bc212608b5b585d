"""The JSON Schemas (draft 2020-12) of what is on the topics, shipped as files for subscribers in any language.

`python -m tokentide.schemas` writes them anew from the models; a test compares. A version is frozen: it may gain
optional fields and nothing else.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from tokentide.schemas.alert import Alert
from tokentide.schemas.budget import Budget, Limits
from tokentide.schemas.price import PriceOverride
from tokentide.schemas.rejected import Rejected
from tokentide.schemas.spend import SpendUpdate
from tokentide.schemas.usage import UsageEvent

__all__ = ["PUBLISHED", "Published", "make_schema", "read_schema", "write_schemas"]


class Published(NamedTuple):
    """A model whose schema is published, and for whom: those who write such records, or those who read them."""

    model: type[BaseModel]
    mode: Literal["validation", "serialization"]


PUBLISHED = {
    "usage-event.v1": Published(UsageEvent, "validation"),
    "budget.v1": Published(Budget, "validation"),
    "price-override.v1": Published(PriceOverride, "validation"),
    "alert.v1": Published(Alert, "serialization"),
    "limits.v1": Published(Limits, "serialization"),
    "rejected.v1": Published(Rejected, "serialization"),
    "spend-update.v1": Published(SpendUpdate, "serialization"),
}


def make_schema(name: str) -> dict[str, Any]:
    """Return the schema as the model gives it now."""
    model, mode = PUBLISHED[name]
    schema = model.model_json_schema(mode=mode)
    if model is UsageEvent:
        # A service may leave the id to the SDK; a record on the topic must have one.
        schema["required"] = ["event_id", *schema["required"]]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:tokentide:{name}"}
    return {**head, **schema}


def read_schema(name: str) -> dict[str, Any]:
    """Return the published schema."""
    text = (resources.files(__package__) / "json" / f"{name}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema into the folder and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in PUBLISHED:
        paths.append(folder / f"{name}.json")
        text = json.dumps(make_schema(name), indent=2, ensure_ascii=False)
        paths[-1].write_text(text + "\n", encoding="utf-8")
    return paths
