# SPDX-License-Identifier: Apache-2.0
"""The site's mailbox by sftp: where the other side allows file transfer and no shell.

A file goes to a name that begins with a dot, which readers leave alone, and gets its own name when it is whole; blobs
go on where they were cut off (`reput`, `reget`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from federation.ids import is_digest
from federation.mailbox.layout import ACK, BLOBS, IN, OUT
from site_agent.carrier.complaints import complaint_of
from site_agent.carrier.process import Finished, Programs
from site_agent.carrier.remote import Listed, RemoteAddress, RemoteMailbox, Transport
from site_agent.carrier.ssh import SshSession

_FOLDERS: Final = (OUT, f"{OUT}/{BLOBS}", IN, f"{IN}/{BLOBS}")
_PARTIAL_SUFFIX: Final = ".part"
_ECHO: Final = "sftp> -ls -lan "
_LISTING_FIELDS: Final = 9
"""Mode, links, owner, group, size, month, day, time or year, name."""


class SftpTransport(Transport):
    """sftp over the shared connection, one batch of commands at a time."""

    def __init__(
        self, address: RemoteAddress, session: SshSession, programs: Programs, max_bytes_per_second: int = 0
    ) -> None:
        self._address, self._programs = address, programs
        self._sftp = ["sftp", "-q", "-F", session.config, "-b", "-"]
        if max_bytes_per_second:
            self._sftp += ["-l", str(max(max_bytes_per_second * 8 // 1000, 1))]

    def look(self) -> RemoteMailbox:
        done = self._run([f"-ls -lan {folder}" for folder in _FOLDERS])
        if done.code:
            raise complaint_of(self._address, done, "to list the site's mailbox")
        return _parsed(done.output)

    def fetch(self, folder: str, names: Sequence[str], into: Path, max_bytes: int) -> None:
        command, where = ("-reget", f"{OUT}/{BLOBS}") if folder else ("-get", OUT)
        commands = [f"lcd {_quoted(str(into))}", *(f"{command} {where}/{name} {name}" for name in names)]
        self._expect_success(self._run(commands, max_bytes), "to bring files")

    def send(self, folder: str, names: Sequence[str], source: Path, there: Listed) -> None:
        commands = [f"lcd {_quoted(str(source))}"]
        if not (there.is_there and there.has_blobs):
            commands += [f"-mkdir {IN}", f"-mkdir {IN}/{BLOBS}"]
        for name in names:
            commands += _sending(folder, name, (source / name).stat().st_size, there)
        self._expect_success(self._run(commands), "to send files")
        there.is_there = there.has_blobs = True

    def remove(self, folder: str, names: Sequence[str]) -> None:
        done = self._run([f"-rm {_joined(IN, folder, name)}" for name in names])
        self._expect_success(done, "to remove files that were received")

    def _run(self, commands: Sequence[str], max_bytes: int = 0) -> Finished:
        batch = "".join(f"{line}\n" for line in (f"cd {_quoted(self._address.mailbox)}", *commands))
        argv = [*self._sftp, "--", self._address.host]
        return self._programs.run(argv, stdin=batch.encode(), max_file_bytes=max_bytes)

    def _expect_success(self, done: Finished, doing: str) -> None:
        if done.code:
            raise complaint_of(self._address, done, doing)


def _sending(folder: str, name: str, num_bytes: int, there: Listed) -> Iterator[str]:
    partial, final = _joined(IN, folder, f".{name}{_PARTIAL_SUFFIX}"), _joined(IN, folder, name)
    begun = there.unfinished.get(name) if folder else None
    if begun is None or begun > num_bytes:
        yield f"put {name} {partial}"
    elif begun < num_bytes:
        yield f"reput {name} {partial}"  # goes on behind what is there, and refuses to begin
    if name in there.blobs or name in there.messages or (name == ACK and there.acknowledgement is not None):
        yield f"-rm {final}"  # a server of the plain protocol renames over nothing
    yield f"rename {partial} {final}"


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def _quoted(path: str) -> str:
    """As sftp's own reader takes it; within quotation marks it takes no character for a pattern."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _parsed(output: str) -> RemoteMailbox:
    """Lines of `ls -lan` under the command that asked for them; sftp escapes what could end one."""
    found, folder = RemoteMailbox(), ""
    for line in output.splitlines():
        if line.startswith("sftp> "):
            folder = line.removeprefix(_ECHO) if line.startswith(_ECHO) else ""
        elif folder in _FOLDERS:
            _take(found, folder, line.split())
    return found


def _take(found: RemoteMailbox, folder: str, fields: Sequence[str]) -> None:
    if len(fields) != _LISTING_FIELDS or not fields[4].isdecimal():
        return
    top, _, inner = folder.partition("/")
    listed = found.direction(top)
    name = fields[-1].removeprefix(f"{folder}/")
    if listed is None:
        return
    if name == "." and fields[0].startswith("d"):
        listed.is_there = True
        listed.has_blobs = listed.has_blobs or inner == BLOBS
    elif fields[0].startswith("-"):
        listed.add(inner, name, int(fields[4]))
        whole = name.removeprefix(".").removesuffix(_PARTIAL_SUFFIX)
        if inner and name == f".{whole}{_PARTIAL_SUFFIX}" and is_digest(whole):
            listed.unfinished[whole] = int(fields[4])
