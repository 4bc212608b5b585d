"""What the folder layout promises, checked on the files themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("schemas", "producers", "streams", "sinks", "console")
MAY_IMPORT = {
    "schemas": set[str](),
    "producers": {"schemas"},
    "streams": {"schemas"},
    "sinks": {"schemas"},
}


def imports(folder: Path) -> set[str]:
    """The tokentide.* parts that the modules under `folder` import."""
    found = set[str]()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
    return {name.split(".")[1] for name in found if name.startswith("tokentide.")}


@pytest.mark.parametrize("part", PARTS)
def test_tokentide_stays_a_namespace(part: str) -> None:
    """A tokentide/__init__.py in one root would hide the other four."""
    assert not (ROOT / part / "tokentide" / "__init__.py").exists()


@pytest.mark.parametrize("part", PARTS)
def test_nothing_importable_stands_directly_in_a_source_root(part: str) -> None:
    """The five roots are on sys.path: a conftest.py or tests/ in one would be importable by everybody."""
    assert [path.name for path in (ROOT / part).iterdir() if path.name != "__pycache__"] == ["tokentide"]


@pytest.mark.parametrize(("part", "allowed"), MAY_IMPORT.items())
def test_imports_point_at_schemas(part: str, allowed: set[str]) -> None:
    """The SDK must stay importable without Faust or ClickHouse installed."""
    assert imports(ROOT / part) - {part} <= allowed


def test_only_the_embedded_server_imports_chdb() -> None:
    """Everything else talks HTTP to ClickHouse, so that a real server can take the embedded one's place."""
    allowed = ROOT / "sinks" / "tokentide" / "sinks" / "embedded"

    guilty = [
        path
        for part in PARTS
        for path in (ROOT / part).rglob("*.py")
        if allowed not in path.parents and "chdb" in {name.name for name in imported_modules(path)}
    ]

    assert guilty == []


def imported_modules(path: Path) -> list[ast.alias]:
    """The modules that the file imports, as aliases with their first name part."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append(ast.alias(node.module.split(".")[0]))
        elif isinstance(node, ast.Import):
            found.extend(ast.alias(alias.name.split(".")[0]) for alias in node.names)
    return found
