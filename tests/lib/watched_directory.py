# SPDX-License-Identifier: Apache-2.0
"""Which files of a directory anybody on this machine opens, as the kernel says (Linux's inotify)."""

import ctypes
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_OPENED: Final = 0x20
"""IN_OPEN"""

_EVENT: Final = struct.Struct("iIII")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class WatchedDirectory:
    """From `with` on; whoever opens a file, and however, is noticed. Directories below it are not watched."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        watch = _LIBC.inotify_add_watch(self._descriptor, os.fsencode(self._directory), _OPENED)
        if self._descriptor < 0 or watch < 0:
            raise OSError(ctypes.get_errno(), f"{self._directory} cannot be watched")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def opened(self) -> set[str]:
        """Names of the files that were opened since the last call."""
        found, data = set(), b"".join(iter(self._read, b""))
        while data:
            _, mask, _, length = _EVENT.unpack_from(data)
            name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
            data = data[_EVENT.size + length :]
            if not mask & _OPENED:
                raise AssertionError(f"expected to be told of every file that is opened, found event {mask:#x}")
            found.update([os.fsdecode(name)] if name else [])
        return found

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 64 * 1024)
        except BlockingIOError:
            return b""
