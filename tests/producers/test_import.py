"""What `import tokentide.producers` gives, and what it does not load."""

import subprocess
import sys
from types import ModuleType

import tokentide.producers
import tokentide.schemas
import tokentide.sinks

HEAVY = (
    "anthropic",
    "faust",
    "genai_prices",
    "google.genai",
    "httpx",
    "langchain_core",
    "litellm",
    "numpy",
    "openai",
    "opentelemetry",
    "pyarrow",
    "tiktoken",
    "tokentide.producers.extraction",
    "tokentide.producers.instrumentation",
    "tokentide.schemas.alert",
    "tokentide.schemas.budget",
)


def test_a_service_that_only_tracks_loads_nothing_it_does_not_need() -> None:
    code = "import sys, tokentide.producers; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert set(HEAVY) & set(loaded.split()) == set()


def test_a_meter_loads_no_client_of_clickhouse() -> None:
    modules = "sys, tokentide.console.workers, tokentide.console.settings, tokentide.streams.meter"
    code = f"import {modules}; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "clickhouse_connect" not in loaded.split()


def test_every_name_that_is_offered_is_there() -> None:
    for package in (tokentide.producers, tokentide.schemas, tokentide.sinks):
        offered = {name: getattr(package, name, None) for name in package.__all__}
        assert [
            name for name, value in offered.items() if value is None or isinstance(value, ModuleType)
        ] == []
        assert not hasattr(package, "nothing_of_the_kind")
