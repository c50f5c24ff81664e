# SPDX-License-Identifier: Apache-2.0
"""An operator's side: signs commands and queries, hands them to the coordinator's control mailbox, waits for replies.

It never opens the coordinator's store. What travels is a signed envelope, so that the same client works over any
courier; here coordinator and operator share a file system.
"""

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.home import load_rosters
from federation import signing
from federation.blobs.store import BlobStore
from federation.directory_lock import DirectoryLock
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, DeadlineExceededError, ObjectNotFoundError, UsageError
from federation.ids import COORDINATOR
from federation.mailbox.carrier import carry_both
from federation.mailbox.mailbox import Mailbox
from federation.messages import Command, CommandReply, Query, QueryReply
from federation.roster import Roster

OPERATOR_KEY: Final = "keys/operator.pem"
OPERATOR_ID: Final = "operator"
POLL_SECONDS: Final = 0.05


@dataclass(kw_only=True)
class OperatorClient:
    """One operator's directory and the coordinator's."""

    fs: RealFileSystem
    coordinator: RealFileSystem
    consortium: str
    operator: str
    mailbox: Mailbox
    blobs: BlobStore
    public: bytes

    def command(self, command: Command, wait_seconds: float) -> CommandReply:
        """Sends a command and waits for its reply.

        Raises:
            UsageError: the coordinator refused it.
            DeadlineExceededError: no reply yet; the command stays queued.
        """
        reply = self._exchange(command, wait_seconds)
        if not isinstance(reply, CommandReply):
            raise UsageError(f"expected a reply to a command, found {type(reply).__name__}")
        if not reply.ok:
            raise UsageError(reply.sentence)
        return reply

    def query(self, query: Query, wait_seconds: float) -> dict[str, Any]:
        """Sends a query and waits for its document.

        Raises:
            UsageError: the coordinator refused it.
            DeadlineExceededError: no reply yet.
        """
        reply = self._exchange(query, wait_seconds)
        if not isinstance(reply, QueryReply) or not reply.ok:
            raise UsageError(reply.sentence)
        document: dict[str, Any] = json.loads(reply.document)
        return document

    def _exchange(self, body: Command | Query, wait_seconds: float) -> CommandReply | QueryReply:
        blobs = body.blobs if isinstance(body, Command) else ()
        self.mailbox.post(body, blobs=blobs)
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline:
            reply = self._poll(body.id)
            if reply is not None:
                return reply
            time.sleep(POLL_SECONDS)
        raise DeadlineExceededError(
            f"no reply within {wait_seconds:g} s; the request stays queued as {body.id} and will be carried out "
            "once the coordinator is served",
            advice=f"Is `coordinator serve {self.coordinator.root}` running? Look at `coordinator run list` before you "
            "repeat a command.",
        )

    def _poll(self, wanted: str) -> CommandReply | QueryReply | None:
        self._carry()
        found: CommandReply | QueryReply | None = None
        for received in self.mailbox.collect(self.public, time.time_ns() // 1000):
            if not received.ready:
                continue
            body = received.message.body
            if isinstance(body, CommandReply | QueryReply) and body.id == wanted:
                found = body
            self.mailbox.done(received.sequence)
        if found is not None:
            self.mailbox.acknowledge()
            self.mailbox.prune()
            self._carry()
        return found

    def _carry(self) -> None:
        carry_both(self.fs, f"mailbox/{COORDINATOR}", self.coordinator, f"mailbox/{self.operator}")


def new_id() -> str:
    """A fresh id for a command or query."""
    return uuid.uuid4().hex


def connect(operator_dir: Path, coordinator_dir: Path | None) -> tuple[OperatorClient, DirectoryLock]:
    """The client of an operator's directory; the lock keeps two commands from using one sequence number.

    Raises:
        ConfigError: a directory is not what it should be, or the roster does not name this operator.
        DirectoryBusyError: another command of this operator is running.
    """
    fs = RealFileSystem(operator_dir)
    key = signing.load_private_key(fs, OPERATOR_KEY)
    operator = fs.read(OPERATOR_ID).decode().strip()
    coordinator = RealFileSystem(coordinator_dir or _beside(operator_dir))
    rosters = load_rosters(coordinator, time.time_ns() // 1000)
    _pin(fs, rosters.fingerprint)
    roster = rosters.current
    _check_operator(roster, operator, signing.public_bytes(key))
    if roster.coordinator is None:
        raise ConfigError("the roster names no coordinator")
    lock = DirectoryLock.acquire(fs, wait_seconds=10.0)
    blobs = BlobStore(fs)
    mailbox = Mailbox(fs, f"mailbox/{COORDINATOR}", blobs, operator, COORDINATOR, roster.consortium, key)
    client = OperatorClient(
        fs=fs,
        coordinator=coordinator,
        consortium=roster.consortium,
        operator=operator,
        mailbox=mailbox,
        blobs=blobs,
        public=roster.coordinator.public,
    )
    return client, lock


def _beside(operator_dir: Path) -> Path:
    """The one coordinator directory beside an operator's."""
    parent = operator_dir.resolve().parent
    found = sorted(p.parent.parent for p in parent.glob("*/keys/coordinator.pem"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise ConfigError(
            f"expected one coordinator directory beside {operator_dir}, found {names}",
            advice="Name it: --coordinator DIR, or the environment variable FEDERATION_COORDINATOR.",
        )
    return found[0]


def _pin(fs: RealFileSystem, fingerprint: str) -> None:
    """Trusts the first root that it sees, and no other one ever after."""
    try:
        pinned = fs.read("root").decode().strip()
    except ObjectNotFoundError:
        fs.write("root", fingerprint.encode())
        return
    if pinned != fingerprint:
        raise ConfigError(f"consortium root: expected {pinned}, found {fingerprint}")


def _check_operator(roster: Roster, operator: str, public: bytes) -> None:
    entry = next((o for o in roster.operators if o.operator == operator), None)
    if entry is None or entry.public != public:
        raise ConfigError(
            f"operator {operator}: not in roster version {roster.version}, or with another key",
            advice="Hand operator.req to the consortium root, then install the new roster at the coordinator.",
        )
