"""What the callbacks share: they are light, and say what they need."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tokentide.producers.instrumentation.langchain_callback import langchain_callback
from tokentide.producers.instrumentation.litellm_callback import litellm_callback
from tokentide.producers.instrumentation.otel import span_processor
from tokentide.producers.instrumentation.runs import Runs


@pytest.mark.parametrize(
    ("make", "module", "package"),
    [
        (langchain_callback, "langchain_core.callbacks", "langchain-core"),
        (litellm_callback, "litellm.integrations.custom_logger", "litellm"),
        (span_processor, "opentelemetry.sdk.trace", "opentelemetry-sdk"),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ImportError, match=f"pip install {package}"):
        make()


def test_importing_them_imports_no_sdk() -> None:
    modules = ("langchain_callback", "litellm_callback", "otel")
    code = "".join(f"import tokentide.producers.instrumentation.{module}\n" for module in modules)
    code += "import sys\nprint({'langchain_core', 'litellm', 'opentelemetry', 'botocore'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_of_too_many_open_calls_the_oldest_is_given_up() -> None:
    given_up: list[int] = []
    runs = Runs(given_up.append)

    for number in range(10_001):
        assert runs.put(number, number)

    assert given_up == [0]
    assert runs.take(0) is None
    assert runs.take(1) == 1


def test_a_call_is_remembered_once() -> None:
    runs: Runs[str] = Runs()

    assert runs.put("call", "first")
    assert not runs.put("call", "second")
    assert runs.get("call") == "first"
