# SPDX-License-Identifier: Apache-2.0
"""The site's mailbox by rsync: where the other side has a shell, or a forced command that runs rsync.

Files are listed by name and never by pattern; both ends write under a temporary name and rename; what was cut off is
kept in a directory of its own, from which rsync goes on.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from federation.mailbox.layout import BLOBS, IN, OUT
from site_agent.carrier.complaints import complaint_of
from site_agent.carrier.process import Finished, Programs
from site_agent.carrier.remote import Listed, RemoteAddress, RemoteMailbox, Transport, lines_of
from site_agent.carrier.ssh import SshSession

_SILENCE_SECONDS: Final = 300
_PARTIAL_DIRECTORY: Final = ".carrier-partial"
_FILES: Final = ("--no-links", "--perms", "--chmod=F644", f"--partial-dir={_PARTIAL_DIRECTORY}")
_LINE: Final = re.compile(r"(.)\S{9}\s+([0-9]+) \S+ \S+ (.*)")
_SHOWN: Final = ("/out/", "/in/", "/*/blobs/", "/*/ack", "/*/*.msg", "/*/blobs/*")
_VANISHED: Final = (23, 24)
"""Some files could not be transferred; some vanished."""


class RsyncTransport(Transport):
    """rsync over the shared connection."""

    def __init__(
        self, address: RemoteAddress, session: SshSession, programs: Programs, max_bytes_per_second: int = 0
    ) -> None:
        self._address, self._programs = address, programs
        # --protect-args: the remote shell sees no path, so that none has to be quoted for it.
        self._rsync = ["rsync", "--protect-args", f"--timeout={_SILENCE_SECONDS}", "-e", session.shell]
        if max_bytes_per_second:
            self._rsync.append(f"--bwlimit={max(max_bytes_per_second // 1024, 1)}")

    def look(self) -> RemoteMailbox:
        shown = [f"--include={pattern}" for pattern in _SHOWN]
        argv = ["--list-only", "--recursive", "--no-human-readable", *shown, "--exclude=*", self._there("")]
        done = self._programs.run([*self._rsync, *argv])
        found = _parsed(done.output)
        if done.code and not (done.code in _VANISHED and (found.out.is_there or found.into.is_there)):
            raise complaint_of(self._address, done, "to list the site's mailbox")
        return found

    def fetch(self, folder: str, names: Sequence[str], into: Path, max_bytes: int) -> None:
        argv = [*_FILES, f"--max-size={max_bytes}", "--ignore-missing-args", "--files-from=-"]
        done = self._programs.run(
            [*self._rsync, *argv, self._there(f"{OUT}/{folder}"), f"{into}/"],
            stdin=lines_of(names),
            max_file_bytes=max_bytes,
        )
        self._expect_success(done, "to bring files", allowed=(24,))

    def send(self, folder: str, names: Sequence[str], source: Path, there: Listed) -> None:
        if not (there.is_there and there.has_blobs):
            self._make_directories(there)
        argv = [*_FILES, "--ignore-times", "--ignore-missing-args", "--files-from=-", f"{source}/"]
        done = self._programs.run([*self._rsync, *argv, self._there(f"{IN}/{folder}")], stdin=lines_of(names))
        self._expect_success(done, "to send files", allowed=(24,))

    def remove(self, folder: str, names: Sequence[str]) -> None:
        """An empty directory is made the same there, as far as the names go: all others are excluded, and stay."""
        empty = self._directory("empty")
        argv = ["--dirs", "--delete", "--include-from=-", "--exclude=*", f"{empty}/", self._there(f"{IN}/{folder}")]
        done = self._programs.run([*self._rsync, *argv], stdin=lines_of(f"/{name}" for name in names))
        self._expect_success(done, "to remove files that were received")

    def _make_directories(self, there: Listed) -> None:
        """An rsync before 3.2.3 makes no parents by itself: the tree is sent from an empty one."""
        tree = self._directory("tree")
        self._programs.fs.mkdir(f"tree/{IN}/{BLOBS}")
        argv = ["--relative", "--dirs", f"{tree}/./{IN}/", f"{tree}/./{IN}/{BLOBS}/", self._there("")]
        self._expect_success(self._programs.run([*self._rsync, *argv]), f"to make {IN}/ there")
        there.is_there = there.has_blobs = True

    def _directory(self, name: str) -> Path:
        self._programs.fs.mkdir(name)
        return self._programs.fs.real_path(name)

    def _there(self, path: str) -> str:
        return f"{self._address.host}:{self._address.mailbox}/{path}".rstrip("/") + "/"

    def _expect_success(self, done: Finished, doing: str, allowed: Sequence[int] = ()) -> None:
        if done.code and done.code not in allowed:
            raise complaint_of(self._address, done, doing)


def _parsed(output: str) -> RemoteMailbox:
    """Type, size, date, time and name of each line; rsync escapes what could end one."""
    found = RemoteMailbox()
    for line in output.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        kind, num_bytes, path = match[1], int(match[2]), match[3]
        top, _, rest = path.partition("/")
        listed = found.direction(top)
        if listed is None:
            continue
        if kind == "d":
            listed.is_there = listed.is_there or not rest
            listed.has_blobs = listed.has_blobs or rest == BLOBS
        elif kind == "-":
            folder, _, name = rest.rpartition("/")
            listed.add(folder, name, num_bytes)
    return found
