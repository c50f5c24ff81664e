# SPDX-License-Identifier: Apache-2.0
"""What the coordinator says: the ledger itself, and rosters. Nothing else is believed, nothing in it is a command.

Order for each `LedgerTail`: roster (its own signatures), ledger copy (checkpoint, leaves, cosignatures; durable), fold,
notes about snapshots (which nobody believes before a job has compared digests with the ledger's), and only then the
message counts as acted upon. A ledger that contradicts itself is kept as evidence; from then on this
site starts nothing and cosigns nothing (`fault`), while what runs goes on.
"""

import json
import logging
from collections.abc import Sequence
from typing import Final

from federation import messages
from federation.durable.api import FileSystem
from federation.errors import (
    FederationError,
    LedgerForkError,
    RosterError,
    StorageError,
    UnknownLeafError,
)
from federation.ids import is_slug
from federation.leaves import Leaf
from federation.ledger.copy import LedgerCopy
from federation.log import SECURITY_LOGGER, in_one_line
from federation.mailbox.mailbox import Mailbox, Received
from federation.messages import LedgerTail
from federation.roster import TrustedRosters
from federation.rounds import Federation, apply
from site_agent import layout, snapshots
from site_agent.agent_state import AgentState
from site_agent.json_records import read_record, write_record
from site_agent.start_delay import MAX_SUGGESTION_SECONDS, SuggestedStart, SuggestedStarts

LOG: Final = logging.getLogger("site_agent")
SECURITY: Final = logging.getLogger(SECURITY_LOGGER)
_HEARD_EVERY_US: Final = 60 * 1_000_000


class Inbox:
    """This site's ears.

    Attributes:
        federation: everything that the ledger says, folded, up to the first leaf that does not fit.
        fault: why the ledger cannot be followed any further, "" if it can.
        heard_at_us: when the coordinator was last heard.
        suggested: per run what it said last about the start of new jobs; advice that this site may follow.
    """

    def __init__(self, fs: FileSystem, mailbox: Mailbox, copy: LedgerCopy, rosters: TrustedRosters) -> None:
        self._fs, self._mailbox, self._copy, self._rosters = fs, mailbox, copy, rosters
        self.federation = Federation()
        self.fault = ""
        self.heard_at_us = self._recorded_us = _read_heard(fs)
        self.suggested = _read_suggested(fs)
        self._last_heard = (mailbox.received_through, mailbox.peer_received_through)
        self._taken: set[int] = set()
        self._stuck = False
        self._fold(copy.leaves())
        if copy.forked:
            self._fail("evidence of a second history of the ledger is kept in state/ledger/forks")

    def receive(self, now_us: int) -> bool:
        """Acts upon everything that has arrived; returns whether that was anything new."""
        busy = False
        for received in self._mailbox.collect(self._rosters.coordinator().public, now_us):
            busy = self._take(received, now_us) or busy
        for rejected in self._mailbox.rejected:
            SECURITY.warning("mailbox: %s: %s", rejected.name, rejected.reason)
        self._mailbox.rejected.clear()
        heard = (self._mailbox.received_through, self._mailbox.peer_received_through)
        if busy or heard != self._last_heard:
            self._last_heard = heard
            self._note_heard(now_us)
        return busy

    def check_cosigned(self, state: AgentState) -> None:
        """The copy must contain what this site vouched for, also after somebody restored an older one."""
        cosigned = state.cosigned
        if cosigned is not None and cosigned.size <= self._copy.size:
            found = self._copy.root(cosigned.size)
            if found != cosigned.root:
                self._fail(f"this site cosigned root {cosigned.root[:12]} at size {cosigned.size}, found {found[:12]}")

    def _take(self, received: Received, now_us: int) -> bool:
        """One message; whether it was new. It stays undone while its blobs are on their way or our disk is full."""
        sequence, body = received.sequence, received.message.body
        new = sequence not in self._taken
        try:
            if isinstance(body, LedgerTail):
                if new:
                    self._tail(body, now_us)
            elif new:
                SECURITY.warning("coordinator: a %s is nothing that a coordinator sends", type(body).__name__)
        except (StorageError, UnknownLeafError) as error:
            LOG.warning("message %d: %s", sequence, in_one_line(error))
            if isinstance(error, UnknownLeafError):
                self._fail(f"{error}; a newer release of this software is needed")
            return False
        except FederationError as error:
            SECURITY.warning("coordinator: message %d: %s", sequence, error)
        self._taken.add(sequence)
        if received.ready:
            self._mailbox.done(sequence)
            self._taken.discard(sequence)
        return new or received.ready

    def _tail(self, tail: LedgerTail, now_us: int) -> None:
        if tail.roster:
            self._install(tail.roster, now_us)
        try:
            leaves = self._copy.accept(tail)
        except LedgerForkError as error:
            self._fail(str(error))
            raise
        self._fold(leaves)
        for snapshot in tail.snapshots:
            snapshots.note(self._fs, self.federation, snapshot)
        self._note_suggested(tail.suggested_starts, now_us)

    def _install(self, document: bytes, now_us: int) -> None:
        before = self._rosters.current.version
        try:
            roster = self._rosters.update(document, now_us)
        except RosterError as error:
            SECURITY.warning("roster from the coordinator: %s", error)
            return
        if roster.version > before:
            self._fs.write(layout.roster_path(roster.version), document)
            LOG.info("roster version %d is in force", roster.version)

    def _fold(self, leaves: Sequence[Leaf]) -> None:
        """A leaf that does not fit stops the fold for good: what follows it could mean anything."""
        for leaf in () if self._stuck else leaves:
            try:
                self.federation = apply(self.federation, leaf)
            except Exception as error:  # a malformed leaf of a lying coordinator must not take the agent down
                self._stuck = True
                self._fail(f"leaf {self.federation.size} does not fit what came before it: {error!r:.200}")
                return

    def _fail(self, sentence: str) -> None:
        if not self.fault:
            SECURITY.error("ledger: %s", sentence)
            LOG.error("ledger: %s. Nothing new is started.", sentence)
        self.fault = self.fault or sentence

    def _note_suggested(self, suggested: Sequence[messages.SuggestedStart], now_us: int) -> None:
        """Kept across restarts, since an agent may be started anew for each pass."""
        for word in suggested:
            if word.run in self.federation.runs and is_slug(word.run):
                seconds = min(word.seconds, MAX_SUGGESTION_SECONDS)
                self.suggested[word.run] = SuggestedStart(seconds=seconds, received_at_us=now_us)
        if suggested:
            write_record(self._fs, layout.SUGGESTED, SuggestedStarts(runs=self.suggested))

    def _note_heard(self, now_us: int) -> None:
        """Survives restarts, at most once a minute: silence is counted from there."""
        self.heard_at_us = now_us
        if now_us - self._recorded_us >= _HEARD_EVERY_US:
            self._fs.write(layout.HEARD, json.dumps({"at_us": now_us}).encode())
            self._recorded_us = now_us


def _read_suggested(fs: FileSystem) -> dict[str, SuggestedStart]:
    try:
        found = read_record(fs, layout.SUGGESTED, SuggestedStarts)
    except FederationError:
        return {}  # damaged: advice that is lost
    return found.runs if found is not None else {}


def _read_heard(fs: FileSystem) -> int:
    if not fs.exists(layout.HEARD):
        return 0
    try:
        return int(json.loads(fs.read(layout.HEARD))["at_us"])
    except (ValueError, KeyError, TypeError):
        return 0
