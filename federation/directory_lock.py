# SPDX-License-Identifier: Apache-2.0
"""One process per directory, also on file systems without working locks.

Owners are numbered files `lock/<n>`, made with O_EXCL: the highest number owns. Numbers only grow and the highest file
is never removed (a clean end marks it as released), so of two processes that find the same dead owner only one can make
the next number.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from federation.durable.api import FileSystem
from federation.errors import DirectoryBusyError, ObjectNotFoundError

DEFAULT_BASE: Final = "lock"
RETRY_SECONDS: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A process, so that neither a recycled id nor a reboot is taken for it; `start_ticks` counts from the boot."""

    host: str
    boot: str
    pid: int
    start_ticks: int
    released: bool = False


_OWNER: Final[TypeAdapter[Owner]] = TypeAdapter(Owner)


def this_process() -> Owner:
    """The calling process."""
    pid = os.getpid()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Owner(host=socket.gethostname(), boot=boot, pid=pid, start_ticks=_start_ticks(pid))


def certainly_gone(owner: Owner, me: Owner) -> bool:
    """Whether an owner can be seen from here to run no more; of a process on another host that cannot be told."""
    if owner.host != me.host:
        return False
    return owner.boot != me.boot or _start_ticks(owner.pid) != owner.start_ticks


class DirectoryLock:
    """A process's hold on a directory; leaving the `with` block releases it.

    Attributes:
        taken_over: whether the owner before this one did not end cleanly.
    """

    def __init__(
        self,
        fs: FileSystem,
        me: Owner,
        gone: Callable[[Owner, Owner], bool] = certainly_gone,
        *,
        force: bool = False,
        base: str = DEFAULT_BASE,
    ) -> None:
        """Takes the directory.

        Args:
            fs: of the directory.
            me: the calling process.
            gone: whether another owner certainly runs no more.
            force: the operator vouches that it does not.
            base: where the numbered files are.

        Raises:
            DirectoryBusyError: another process has it, or may have it.
        """
        self._fs, self._me, self._base = fs, me, base
        numbers = self._numbers()
        before = self._owner(numbers[-1]) if numbers else None
        if before is not None and not before.released and not force and not gone(before, me):
            raise _busy(before)
        self._number = (numbers[-1] if numbers else 0) + 1
        if not fs.create(self._path(self._number), _encode(me)):
            raise _busy(self._owner(self._number))
        for number in numbers:
            fs.remove(self._path(number))
        self.taken_over = before is not None and not before.released

    @classmethod
    def acquire(cls, fs: FileSystem, *, wait_seconds: float = 0.0, base: str = DEFAULT_BASE) -> Self:
        """Takes the directory for the calling process, waiting that long for another one to leave it.

        Raises:
            DirectoryBusyError: it did not.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                return cls(fs, this_process(), base=base)
            except DirectoryBusyError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    def check(self) -> None:
        """Raises DirectoryBusyError if another process has taken over since (an operator forced it)."""
        numbers = self._numbers()
        if max(numbers, default=0) != self._number:
            raise _busy(self._owner(numbers[-1]) if numbers else None)

    def release(self) -> None:
        """A clean end: the next process need not ask whether this one still runs."""
        self._fs.write(self._path(self._number), _encode(replace(self._me, released=True)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _numbers(self) -> list[int]:
        return sorted(int(name) for name in self._fs.list(self._base) if name.isascii() and name.isdigit())

    def _owner(self, number: int) -> Owner | None:
        try:
            return _OWNER.validate_json(self._fs.read(self._path(number), max_bytes=65536))
        except (ObjectNotFoundError, ValidationError):
            return None

    def _path(self, number: int) -> str:
        return f"{self._base}/{number}"


def _encode(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def _busy(owner: Owner | None) -> DirectoryBusyError:
    who = f"process {owner.pid} on {owner.host}" if owner else "another process that has just started"
    return DirectoryBusyError(
        f"directory: expected no other process at work in it, found {who}",
        advice="Stop that process. If it certainly runs no more (its host is gone), use --take-over.",
    )


def _start_ticks(pid: int) -> int:
    """Field 22 of /proc/<pid>/stat (proc_pid_stat(5)), -1 if there is no such process; zombies run no more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    parts = text[text.rfind(")") + 2 :].split()
    return -1 if parts[0] in ("Z", "X", "x") else int(parts[19])
