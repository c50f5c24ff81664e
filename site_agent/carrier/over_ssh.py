# SPDX-License-Identifier: Apache-2.0
"""Carries one mailbox between a site's machine and the coordinator's directory on this one, as often as it is told.

The order is that of `federation.mailbox.carrier`: blobs before messages, acknowledgements last. What the writer of a
file no longer offers is taken away at the reader: the reader's side is listed first, so that what only appeared
between two listings is never taken for withdrawn.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from federation.durable.real import RealFileSystem
from federation.errors import LimitExceededError, ObjectNotFoundError
from federation.ids import is_digest
from federation.limits import DEFAULT_LIMITS
from federation.mailbox.arriving import MailboxLimits, Room
from federation.mailbox.layout import ACK, BLOBS, IN, OUT, parse_message_name
from site_agent.carrier.remote import Listed, RemoteMailbox, Transport
from site_agent.carrier.ssh import SshSession
from site_agent.carrier.staging import Staging

MAX_BATCH_BYTES: Final = 256 * 1024 * 1024
MAX_BATCH_FILES: Final = 500
"""Of one call of a program: what has come is put into the mailbox after each."""


class RemoteMailboxes:
    """A site's mailbox on another machine, and the coordinator's mailbox with that site on this one."""

    def __init__(
        self,
        session: SshSession,
        transport: Transport,
        coordinator: Path,
        site: str,
        limits: MailboxLimits | None = None,
    ) -> None:
        self._session, self._transport = session, transport
        self._fs, self._base = RealFileSystem(coordinator), f"mailbox/{site}"
        self._limits = limits or MailboxLimits()
        self._staging = Staging(self._fs, self._base)
        self._sent_acknowledgement = b""

    def carry(self) -> int:
        """Both ways. Returns how many files were brought.

        Raises:
            LoginRefusedError: only a human can help.
            TransportError: there is no connection, or it was lost.
            StorageError: at either end; ObjectNotFoundError without a mailbox there.
            LimitExceededError: the site offers more than a mailbox may hold.
        """
        self._session.ensure()
        here_before = self._listed(IN)
        there = self._transport.look()
        if not there.out.is_there:
            raise ObjectNotFoundError(
                "the site's mailbox: expected its out/, found none yet",
                advice="The site's agent makes it when it first starts; compare the path with the site's directory.",
            )
        brought = self._pull(there, here_before)
        return brought + self._push(there.into, self._listed(OUT))

    def close(self) -> None:
        """Ends the connection."""
        self._session.close()

    # -- from the site -------------------------------------------------------------------------------------------------

    def _pull(self, there: RemoteMailbox, here: Listed) -> int:
        offered = there.out
        brought = self._pull_blobs(self._missing(offered.blobs, here.blobs, self._limits.max_blob_bytes))
        brought += self._pull_messages(offered, here)
        for folder, before, after in (
            (f"{BLOBS}/", here.blobs, offered.blobs),
            ("", here.messages, offered.messages),
        ):
            for name in sorted(before.keys() - after.keys()):
                self._fs.remove(f"{self._base}/{IN}/{folder}{name}")
        return brought

    def _pull_blobs(self, wanted: Mapping[str, int]) -> int:
        self._staging.forget_all_but(set(wanted))
        brought, room = 0, Room(self._fs, self._base, self._limits)
        for batch in batches(wanted):
            room.check(sum(batch.values()))
            absent = [name for name, num_bytes in batch.items() if not self._staging.take_blob(name, num_bytes)]
            brought += len(batch) - len(absent)
            if absent:
                self._transport.fetch(BLOBS, absent, self._staging.path, max(batch.values()))
            brought += sum(self._staging.take_blob(name, batch[name]) for name in absent)
            room.recount()
        return brought

    def _pull_messages(self, offered: Listed, here: Listed) -> int:
        limit = DEFAULT_LIMITS.max_envelope_bytes
        wanted = [*sorted(self._missing(offered.messages, here.messages, limit))[:MAX_BATCH_FILES]]
        slot = [ACK] if offered.acknowledgement is not None else []
        if not wanted and not slot:
            return 0
        self._transport.fetch("", wanted + slot, self._staging.path, limit)
        brought = sum(self._staging.take_message(name) for name in wanted)
        return brought + self._staging.take_acknowledgement()

    # -- to the site ---------------------------------------------------------------------------------------------------

    def _push(self, there: Listed, offered: Listed) -> int:
        out = self._fs.real_path(f"{self._base}/{OUT}")
        brought = 0
        for batch in batches(self._missing(offered.blobs, there.blobs, self._limits.max_blob_bytes)):
            self._transport.send(BLOBS, list(batch), out / BLOBS, there)
            brought += len(batch)
        wanted = sorted(self._missing(offered.messages, there.messages, DEFAULT_LIMITS.max_envelope_bytes))
        if wanted:
            self._transport.send("", wanted, out, there)
        brought += len(wanted) + self._push_acknowledgement(out, there)
        for folder, before, after in (
            (BLOBS, there.blobs, offered.blobs),
            ("", there.messages, offered.messages),
        ):
            if withdrawn := sorted(before.keys() - after.keys()):
                self._transport.remove(folder, withdrawn)
        return brought

    def _push_acknowledgement(self, out: Path, there: Listed) -> int:
        try:
            slot = self._fs.read(f"{self._base}/{OUT}/{ACK}", max_bytes=DEFAULT_LIMITS.max_envelope_bytes)
        except ObjectNotFoundError:
            return 0
        if slot == self._sent_acknowledgement and there.acknowledgement == len(slot):
            return 0
        self._transport.send("", [ACK], out, there)
        self._sent_acknowledgement = slot
        return 1

    # -- both ----------------------------------------------------------------------------------------------------------

    def _listed(self, direction: str) -> Listed:
        listed = Listed()
        for folder, is_ours in ((BLOBS, is_digest), ("", lambda name: parse_message_name(name) is not None)):
            directory = f"{self._base}/{direction}/{folder}".rstrip("/")
            for name in filter(is_ours, self._fs.list(directory)):
                try:
                    listed.add(folder, name, self._fs.size(f"{directory}/{name}"))
                except ObjectNotFoundError:  # gone since, or no file
                    continue
        return listed

    def _missing(self, offered: Mapping[str, int], present: Mapping[str, int], max_bytes: int) -> dict[str, int]:
        """What the reader lacks, or has in another length. Raises LimitExceededError."""
        wanted = {name: num_bytes for name, num_bytes in offered.items() if present.get(name) != num_bytes}
        largest = max(wanted.values(), default=0)
        if largest > max_bytes:
            raise LimitExceededError(f"mailbox: expected files of {max_bytes} bytes at most, found one of {largest}")
        return wanted


def batches(wanted: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Files in the order given, bounded in number and bytes; a large one is alone."""
    batch: dict[str, int] = {}
    for name, num_bytes in wanted.items():
        if batch and (len(batch) >= MAX_BATCH_FILES or sum(batch.values()) + num_bytes > MAX_BATCH_BYTES):
            yield batch
            batch = {}
        batch[name] = num_bytes
    if batch:
        yield batch
