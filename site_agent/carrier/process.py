# SPDX-License-Identifier: Apache-2.0
"""Runs ssh, rsync and sftp as processes; the kernel bounds what each may write, so none can fill this machine."""

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, LimitExceededError, PeerUnavailableError

_TOO_LARGE: Final = (-signal.SIGXFSZ, 128 + signal.SIGXFSZ)
"""As a process ends that the kernel stops at RLIMIT_FSIZE, and as a shell tells of a child that was."""
_LOOK_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 10.0
_MAX_OUTPUT_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A process that has ended. `complaint` is what it said on stderr, bounded, as printable ASCII."""

    code: int
    output: str
    complaint: str


class Programs:
    """Runs one program at a time, with its files in a private directory.

    Attributes:
        fs: of the private directory.
    """

    def __init__(self, directory: Path, is_stopping: Callable[[], bool] = lambda: False) -> None:
        """`is_stopping` is asked while a program runs; it is ended then."""
        self.fs = RealFileSystem(directory)
        self._directory = directory
        self._is_stopping = is_stopping

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", max_file_bytes: int = 0, to_its_end: bool = False
    ) -> Finished:
        """Runs a program to its end.

        Args:
            max_file_bytes: no file that it writes grows beyond this, or 16 MiB if that is more.
            to_its_end: also when this process is to stop.

        Raises:
            ConfigError: there is no such program.
            LimitExceededError: it wrote more.
            PeerUnavailableError: this process is to stop.
        """
        self.fs.place("stdin", stdin)
        limit = max(max_file_bytes, _MAX_OUTPUT_BYTES)
        code = self._ended(self._started(argv, limit), to_its_end)
        if code in _TOO_LARGE or "File too large" in self._said("stderr"):
            raise LimitExceededError(
                f"{argv[0]}: expected files of {limit} bytes at most, found that it would write more",
                advice="The other side sends more than it announced.",
            )
        return Finished(code=code, output=self._said("stdout"), complaint=_printable(self._said("stderr")))

    def _started(self, argv: Sequence[str], limit: int) -> "subprocess.Popen[bytes]":
        paths = (self._directory / name for name in ("stdin", "stdout", "stderr"))
        with next(paths).open("rb") as said, next(paths).open("wb") as output, next(paths).open("wb") as complaint:
            try:
                return subprocess.Popen(
                    argv,
                    stdin=said,
                    stdout=output,
                    stderr=complaint,
                    env=_environment(),
                    start_new_session=True,
                    preexec_fn=partial(_bounded, limit),  # this process has no other thread
                )
            except FileNotFoundError as error:
                raise ConfigError(
                    f"{argv[0]}: expected this program on this machine, found none", advice=f"Install {argv[0]}."
                ) from error

    def _ended(self, process: "subprocess.Popen[bytes]", to_its_end: bool) -> int:
        try:
            while True:
                try:
                    return process.wait(_LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    if self._is_stopping() and not to_its_end:
                        raise PeerUnavailableError("carrier: stopped in the middle; it goes on from there") from None
        finally:
            _end(process)

    def _said(self, name: str) -> str:
        with (self._directory / name).open("rb") as file:
            return file.read(_MAX_OUTPUT_BYTES).decode(errors="replace")


def _bounded(limit: int) -> None:
    """In the child, before it becomes the program: so no child of its own can come before the limits do."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """Without a locale's words in messages, and without a window that asks for a password."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "SSH_ASKPASS", "LC_ALL")}
    return {**kept, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}


def _printable(text: str) -> str:
    """The lines of a complaint as one bounded sentence: what a server sends must not steer a terminal."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = "; ".join(lines[-6:])
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in words)[:600]
