# SPDX-License-Identifier: Apache-2.0
"""The audited directory can only be read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from federation.durable import FileSystem
from federation.errors import StorageError
from federation.verify.files import ReadOnlyFileSystem

CHANGES: dict[str, Callable[[FileSystem], object]] = {
    "write": lambda fs: fs.write("a", b"1"),
    "create": lambda fs: fs.create("new", b"1"),
    "writer": lambda fs: fs.writer(),
    "appender": lambda fs: fs.appender("a"),
    "truncate": lambda fs: fs.truncate("a", 0),
    "link": lambda fs: fs.link("a", "b"),
    "rename": lambda fs: fs.rename("a", "b"),
    "remove": lambda fs: fs.remove("a"),
    "mkdir": lambda fs: fs.mkdir("d"),
    "remove_tree": lambda fs: fs.remove_tree("tree"),
    "publish_tree": lambda fs: fs.publish_tree("tree", "other"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_operation_changes_anything(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(b"data")
    (tmp_path / "tree").mkdir()
    fs = ReadOnlyFileSystem(tmp_path)
    with pytest.raises(StorageError):
        CHANGES[name](fs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "tree"]
    assert fs.read("a") == b"data"


def test_nothing_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"data")

    def fsync(descriptor: int) -> None:
        raise AssertionError("fsync of an audited directory")

    monkeypatch.setattr("os.fsync", fsync)
    ReadOnlyFileSystem(tmp_path).sync_paths(["a"])
