# SPDX-License-Identifier: Apache-2.0
"""What network file systems do and local ones don't: stale handles, servers away, errors at fsync and close."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from federation.durable.real import RealFileSystem
from federation.errors import DiskFullError, StorageError, StorageUnavailableError


def failing(function: Callable[..., object], code: int, times: int) -> Callable[..., object]:
    """The function, failing so often before it works."""
    left = times

    def call(*arguments: object, **more: object) -> object:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(code, os.strerror(code))
        return function(*arguments, **more)

    return call


@pytest.fixture
def fs(tmp_path: Path) -> RealFileSystem:
    fs = RealFileSystem(tmp_path)
    fs.write("file", b"content")
    return fs


def test_a_stale_handle_is_opened_again(fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "lseek", failing(os.lseek, errno.ESTALE, 2))
    assert fs.read_range("file", 0, 100) == b"content"


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.ESHUTDOWN, errno.ETIMEDOUT])
def test_a_server_that_is_away_may_come_back(fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "lseek", failing(os.lseek, code, 10**9))
        with pytest.raises(StorageUnavailableError) as caught:
            fs.read_range("file", 0, 100)
    assert caught.value.retryable
    assert os.strerror(code) in str(caught.value)
    assert fs.read_range("file", 0, 100) == b"content"


def test_what_cannot_help_is_not_called_retryable(fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "lseek", failing(os.lseek, errno.EACCES, 1))
    with pytest.raises(StorageError) as caught:
        fs.read_range("file", 0, 100)
    assert not caught.value.retryable


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["fsync", "close"])
@pytest.mark.parametrize("how", ["write", "stage", "writer"])
def test_a_quota_that_is_told_late_leaves_nothing_behind(
    fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, where: str, how: str
) -> None:
    def act() -> None:
        if how == "writer":
            with fs.writer() as writer:
                writer.write(b"new")
                writer.publish("file")
        else:
            getattr(fs, how)("file" if how == "write" else "other", b"new")

    with monkeypatch.context() as patched:
        patched.setattr(os, where, failing(getattr(os, where), code, 1))
        with pytest.raises(DiskFullError):
            act()
    assert fs.read("file") == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    act()


def test_an_error_at_close_keeps_the_name_from_appearing(
    fs: RealFileSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`place` has no fsync before it that would tell."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "close", failing(os.close, errno.EIO, 1))
        with pytest.raises(StorageUnavailableError):
            fs.place("file", b"new")
    assert fs.read("file") == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
