# SPDX-License-Identifier: Apache-2.0
"""A site's directory on another machine: where it is, what its mailbox holds, and what a program must do there.

Whatever comes from there may be hostile. Only names of the mailbox's own grammar are taken, regular files alone, no
more of them and none longer than a mailbox may hold; everything else is as if it were not there.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from federation.errors import ConfigError, LimitExceededError
from federation.ids import is_digest
from federation.mailbox.arriving import MailboxLimits
from federation.mailbox.layout import ACK, BLOBS, IN, OUT, parse_message_name
from site_agent import layout

MAX_LISTED: Final = MailboxLimits().max_pending_files
"""Files in one direction of a mailbox."""

_ADDRESS: Final = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99})@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r":(?P<path>/.*)"
)


@dataclass(frozen=True, kw_only=True)
class RemoteAddress:
    """`[user@]host[:port]:/path/to/site`. `user` "" and `port` 0 leave it to the ssh configuration."""

    user: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> "RemoteAddress":
        """Takes an address apart. Raises ConfigError."""
        found = _ADDRESS.fullmatch(text)
        if found is None or not found["path"].isprintable() or int(found["port"] or 0) > 65535:
            raise ConfigError(
                f"--remote: expected [user@]host[:port]:/absolute/path/of/site, found {text!r:.200}",
                advice="For example --remote alice@transfer1.example.org:/gpfs/projects/x/site",
            )
        path = "/" + "/".join(part for part in found["path"].split("/") if part)
        if ".." in path.split("/"):
            raise ConfigError(f"--remote: expected a path without '..', found {text!r:.200}")
        return cls(user=found["user"] or "", host=found["host"], port=int(found["port"] or 0), path=path)

    @property
    def ssh_host(self) -> str:
        """The host as ssh takes it: an IPv6 address without its brackets."""
        return self.host.strip("[]")

    @property
    def mailbox(self) -> str:
        """Absolute path of the site's mailbox with the coordinator."""
        return f"{self.path}/{layout.MAILBOX}"

    def __str__(self) -> str:
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"{user}{self.host}{port}:{self.path}"


@dataclass(kw_only=True)
class Listed:
    """One direction of a mailbox as a listing shows it: sizes in bytes by name.

    Attributes:
        unfinished: blobs that this carrier has begun to send, by digest.
        is_there: whether the directory exists.
        has_blobs: whether its blobs/ does.
    """

    messages: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, int] = field(default_factory=dict)
    unfinished: dict[str, int] = field(default_factory=dict)
    acknowledgement: int | None = None
    is_there: bool = False
    has_blobs: bool = False

    def add(self, folder: str, name: str, num_bytes: int) -> None:
        """Takes note of a regular file, if its name is one of a mailbox's. Raises LimitExceededError."""
        if folder == BLOBS and is_digest(name):
            self.blobs[name] = num_bytes
        elif not folder and parse_message_name(name) is not None:
            self.messages[name] = num_bytes
        elif not folder and name == ACK:
            self.acknowledgement = num_bytes
        if len(self.blobs) + len(self.messages) > MAX_LISTED:
            raise LimitExceededError(f"remote mailbox: expected {MAX_LISTED} files at most, found more")


@dataclass(kw_only=True)
class RemoteMailbox:
    """Both directions, from the site's point of view."""

    out: Listed = field(default_factory=Listed)
    into: Listed = field(default_factory=Listed)

    def direction(self, name: str) -> Listed | None:
        """`out` or `into` by the name of its directory."""
        return {OUT: self.out, IN: self.into}.get(name)


class Transport(ABC):
    """A program that lists, brings, sends and removes files of the site's mailbox. `folder` is "" or "blobs"."""

    @abstractmethod
    def look(self) -> RemoteMailbox:
        """What is there now.

        Raises:
            ObjectNotFoundError: no such site directory there, or it has no mailbox yet.
            PeerUnavailableError: the connection is gone.
            LimitExceededError: more than a mailbox may hold.
        """

    @abstractmethod
    def fetch(self, folder: str, names: Sequence[str], into: Path, max_bytes: int) -> None:
        """Brings files of out/ into a local directory, going on where an earlier call was cut off.

        What is withdrawn meanwhile is passed over: the caller looks at what has come, and checks it.

        Raises:
            StorageError, PeerUnavailableError, LimitExceededError: not all could be brought.
        """

    @abstractmethod
    def send(self, folder: str, names: Sequence[str], source: Path, there: Listed) -> None:
        """Sends files of a local directory to in/, each of which appears there in full.

        Raises:
            StorageError, PeerUnavailableError: not all could be sent.
        """

    @abstractmethod
    def remove(self, folder: str, names: Sequence[str]) -> None:
        """Takes files of in/ away that their writer has deleted. Raises StorageError, PeerUnavailableError."""


def lines_of(names: Iterable[str]) -> bytes:
    """Names, one in each line; none of the grammar's contains anything that would need quoting."""
    return "".join(f"{name}\n" for name in names).encode()
