"""The demo's directory goes, unless somebody must look into it."""

import pytest

from tokentide.console.demo import Workspace


def used(workspace: Workspace) -> None:
    (workspace.path / "logs").mkdir()
    (workspace.path / "logs" / "meter-1.log").touch()


def end(workspace: Workspace, error: BaseException) -> None:
    with workspace:
        used(workspace)
        raise error


def test_it_is_gone_when_all_is_well() -> None:
    said: list[str] = []

    with Workspace(said.append) as workspace:
        used(workspace)

    assert not workspace.path.exists()
    assert said == []


def test_it_is_gone_when_somebody_wanted_to_stop() -> None:
    workspace = Workspace(lambda words: None)

    with pytest.raises(KeyboardInterrupt):
        end(workspace, KeyboardInterrupt())

    assert not workspace.path.exists()


def test_it_is_gone_when_nothing_ran() -> None:
    with pytest.raises(ValueError, match="a malformed row"), Workspace(lambda words: None) as workspace:
        raise ValueError("a malformed row")

    assert not workspace.path.exists()


def test_it_stays_when_something_broke_and_says_where() -> None:
    said: list[str] = []

    workspace = Workspace(said.append)

    with pytest.raises(ValueError, match="broken"):
        end(workspace, ValueError("broken"))

    assert said == [
        f"Kept for you to look into: the logs are in {workspace.path}/logs, the data beside them."
    ]
    assert (workspace.path / "logs" / "meter-1.log").exists()


def test_it_stays_when_it_is_evidence() -> None:
    said: list[str] = []

    with Workspace(said.append) as workspace:
        used(workspace)
        workspace.is_evidence = True

    assert (workspace.path / "logs").exists()
    assert len(said) == 1
