# SPDX-License-Identifier: Apache-2.0
"""Versions of an executable's state directory: copied out, adopted, kept while a training checkpoint names them."""

import os
from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from federation.errors import CorruptObjectError
from site_agent.trainer.command_process import CommandFailedError
from site_agent.trainer.command_state import MAX_STATE_FILES, StateVersion, StateVersions


@pytest.fixture
def versions(tmp_path: Path) -> StateVersions:
    return StateVersions(RealFileSystem(tmp_path), "state", 1000)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "state").iterdir())


def next_version(versions: StateVersions, root: Path, before: StateVersion, text: str) -> StateVersion:
    versions.copy_out(before, "work")
    (root / "work" / "deep").mkdir(exist_ok=True)
    (root / "work" / "deep" / "file").write_text(text)
    return versions.adopt("work")


def test_a_version_is_copied_and_never_changed(versions: StateVersions, tmp_path: Path) -> None:
    first = next_version(versions, tmp_path, StateVersion(), "one")
    second = next_version(versions, tmp_path, first, "two, longer")
    assert (first.number, second.number) == (1, 2)
    versions.copy_out(first, "again")
    assert (tmp_path / "again" / "deep" / "file").read_text() == "one"
    assert StateVersion.from_json(second.to_json()) == second


def test_only_what_a_checkpoint_may_name_is_kept(versions: StateVersions, tmp_path: Path) -> None:
    version = StateVersion()
    for text in "abcde":
        version = next_version(versions, tmp_path, version, text)
        versions.named(version)
        versions.named(version)
    assert names(tmp_path) == ["3", "4", "5"]


def test_what_no_checkpoint_names_is_dropped_at_the_begin(versions: StateVersions, tmp_path: Path) -> None:
    first = next_version(versions, tmp_path, StateVersion(), "one")
    next_version(versions, tmp_path, first, "two")
    versions.drop_above(first)
    assert names(tmp_path) == ["1"]
    assert next_version(versions, tmp_path, first, "other").number == 2
    versions.drop_above(StateVersion())
    assert names(tmp_path) == []


@pytest.mark.parametrize("damage", ["lo", "ones", "two"], ids=["shorter", "longer", "other"])
def test_a_damaged_version_is_noticed(versions: StateVersions, tmp_path: Path, damage: str) -> None:
    first = next_version(versions, tmp_path, StateVersion(), "one")
    (tmp_path / "state" / "1" / "deep" / "file").write_text(damage)
    with pytest.raises(CorruptObjectError, match="state/1/deep/file: expected"):
        versions.copy_out(first, "work")


def test_links_and_pipes_are_refused(versions: StateVersions, tmp_path: Path) -> None:
    for name, make in (("link", lambda p: p.symlink_to("/etc/passwd")), ("pipe", os.mkfifo)):
        work = tmp_path / f"work-{name}"
        work.mkdir()
        make(work / "odd")
        with pytest.raises(CommandFailedError, match="found a link, device, pipe or socket"):
            versions.adopt(work.name)


@pytest.mark.parametrize(("name", "size"), [(".tmp-mine", 1), ("line\nbreak", 1), ("large", 1001)])
def test_odd_names_and_too_much_are_refused(versions: StateVersions, tmp_path: Path, name: str, size: int) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / name).write_bytes(b"x" * size)
    with pytest.raises(CommandFailedError, match="state directory: expected") as caught:
        versions.adopt("work")
    assert "mine" not in str(caught.value)


def test_too_many_files_are_refused(versions: StateVersions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("site_agent.trainer.command_state.MAX_STATE_FILES", 3)
    (tmp_path / "work").mkdir()
    for number in range(4):
        (tmp_path / "work" / str(number)).touch()
    assert MAX_STATE_FILES > 3
    with pytest.raises(CommandFailedError, match="expected at most 3 files"):
        versions.adopt("work")
