# SPDX-License-Identifier: Apache-2.0
"""An operator's side: signs commands and queries, hands them to the coordinator's control mailbox, waits for replies.

It never opens the coordinator's store. What travels is a signed envelope, so that the same client works over any
courier: over the network for an operator who enrolled, else on a file system that coordinator and operator share.
"""

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.home import load_rosters
from federation import signing
from federation.blobs.store import BlobStore
from federation.directory_lock import DirectoryLock
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, DeadlineExceededError, ObjectNotFoundError, UsageError
from federation.ids import COORDINATOR, is_digest
from federation.mailbox.carrier import carry_both
from federation.mailbox.mailbox import Mailbox
from federation.messages import Command, CommandReply, Query, QueryReply
from federation.roster import Roster
from federation.rpc import credentials

OPERATOR_KEY: Final = "keys/operator.pem"
OPERATOR_ID: Final = "operator"
OPERATOR_REQUEST: Final = "tls/request"
"""The key request of the set-up, or as it was accepted with an invite: a renewal repeats its exact bytes."""

POLL_SECONDS: Final = 0.05


class Carrying(Protocol):
    """What moves the operator's mailbox."""

    def carry(self) -> None:
        """Moves what is there, or sees to it that it will be. Raises FederationError where waiting is of no use."""

    def rest(self, seconds: float) -> None:
        """Waits for news, at most so long."""

    def progress(self) -> int:
        """Grows while something large is on its way."""

    def advice(self, command: str = "") -> str:
        """What to do when no reply came. `command`: its id, "" for a query, which may be repeated freely."""

    def close(self) -> None:
        """Ends it."""


class SharedDirectory:
    """The coordinator's directory is here, too."""

    def __init__(self, fs: RealFileSystem, coordinator: RealFileSystem, operator: str) -> None:
        self._fs, self._coordinator, self._operator = fs, coordinator, operator

    def carry(self) -> None:
        """Copies files both ways."""
        carry_both(self._fs, f"mailbox/{COORDINATOR}", self._coordinator, f"mailbox/{self._operator}")

    def rest(self, seconds: float) -> None:
        """Nothing tells when a file appears."""
        time.sleep(seconds)

    def progress(self) -> int:
        """Copying is done when `carry` returns."""
        return 0

    def advice(self, command: str = "") -> str:
        """Who has to act."""
        running = f"Is `coordinator serve {self._coordinator.root}` running?"
        return f"{running} Look at `coordinator run list` before you repeat command {command}." if command else running

    def close(self) -> None:
        """Nothing is open."""


@dataclass(kw_only=True)
class OperatorClient:
    """One operator's directory and what carries its mailbox."""

    fs: RealFileSystem
    carrying: Carrying
    consortium: str
    operator: str
    mailbox: Mailbox
    blobs: BlobStore
    roster: Roster
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
        deadline, progress = time.monotonic() + wait_seconds, 0
        while time.monotonic() < deadline:
            reply = self._poll(body.id)
            if reply is not None:
                return reply
            self.carrying.rest(POLL_SECONDS)
            if self.carrying.progress() > progress:
                deadline, progress = time.monotonic() + wait_seconds, self.carrying.progress()
        raise self._nobody_answered(body, wait_seconds)

    def _nobody_answered(self, body: Command | Query, wait_seconds: float) -> DeadlineExceededError:
        if isinstance(body, Query):
            return DeadlineExceededError(
                f"no reply within {wait_seconds:g} s; this was only a question, nothing was changed",
                advice=self.carrying.advice(),
            )
        return DeadlineExceededError(
            f"no reply within {wait_seconds:g} s; the request stays queued as {body.id} and will be carried out "
            "once it reaches a coordinator that is served",
            advice=self.carrying.advice(body.id),
        )

    def _poll(self, wanted: str) -> CommandReply | QueryReply | None:
        self.carrying.carry()
        found: CommandReply | QueryReply | None = None
        for received in self.mailbox.collect(self.public, time.time_ns() // 1000):
            if not received.ready:
                continue
            body = received.message.body
            if isinstance(body, CommandReply | QueryReply) and body.id == wanted:
                found = body
            elif isinstance(body, QueryReply):
                self._forget(body)
            self.mailbox.done(received.sequence)
        if found is not None:
            self.mailbox.acknowledge()
            self.mailbox.prune()
            self.carrying.carry()
        return found

    def _forget(self, reply: QueryReply) -> None:
        """Nobody waits for this reply any more. An export goes, it is of no further use; a model's blobs are."""
        export = json.loads(reply.document).get("export", "") if reply.document else ""
        if is_digest(export):
            self.blobs.delete(export)


def new_id() -> str:
    """A fresh id for a command or query."""
    return uuid.uuid4().hex


class Hold:
    """An operator's directory in use: no two commands use one sequence number, and nothing stays open afterwards."""

    def __init__(self, lock: DirectoryLock, carrying: Carrying) -> None:
        self._lock, self._carrying = lock, carrying

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._carrying.close()
        self._lock.release()


def connect(operator_dir: Path, coordinator_dir: Path | None) -> tuple[OperatorClient, Hold]:
    """The client of an operator's directory, and what the caller leaves it by.

    An operator who enrolled goes over the network, unless a coordinator's directory is named.

    Raises:
        ConfigError: a directory is not what it should be, or the roster does not name this operator.
        DirectoryBusyError: another command of this operator is running.
        FederationError: over the network, as calls fail.
    """
    fs = RealFileSystem(operator_dir)
    key = load_operator_key(fs)
    operator = fs.read(OPERATOR_ID).decode().strip()
    remote = coordinator_dir is None and credentials.read_endpoint(fs) is not None
    coordinator = None if remote else RealFileSystem(coordinator_dir or beside(operator_dir))
    roster = _remote_roster(fs, operator) if coordinator is None else _shared_roster(fs, coordinator)
    _check_operator(roster, operator, signing.public_bytes(key), enrolled=remote)
    if roster.coordinator is None:
        raise ConfigError("the roster names no coordinator")
    lock = DirectoryLock.acquire(fs, wait_seconds=10.0)
    blobs = BlobStore(fs)
    mailbox = Mailbox(fs, f"mailbox/{COORDINATOR}", blobs, operator, COORDINATOR, roster.consortium, key)
    carrying = _over_network(fs) if coordinator is None else SharedDirectory(fs, coordinator, operator)
    client = OperatorClient(
        fs=fs,
        carrying=carrying,
        consortium=roster.consortium,
        operator=operator,
        mailbox=mailbox,
        blobs=blobs,
        roster=roster,
        public=roster.coordinator.public,
    )
    return client, Hold(lock, carrying)


def load_operator_key(fs: RealFileSystem) -> Ed25519PrivateKey:
    """The key of an operator's directory.

    Raises:
        ConfigError: it is no operator's directory, or the key cannot be read.
    """
    if not fs.exists(OPERATOR_KEY) and not fs.exists(OPERATOR_ID):
        raise ConfigError(f"{fs.root.resolve()}: expected a directory that `coordinator operator init` made")
    return signing.load_private_key(fs, OPERATOR_KEY)


def goes_over_network(operator_dir: Path, coordinator_dir: Path | None) -> bool:
    """Whether `connect` would."""
    return coordinator_dir is None and credentials.read_endpoint(RealFileSystem(operator_dir)) is not None


def _over_network(fs: RealFileSystem) -> Carrying:
    from coordinator.rpc.operator_courier import NetworkCourier

    return NetworkCourier(fs)


def _shared_roster(fs: RealFileSystem, coordinator: RealFileSystem) -> Roster:
    rosters = load_rosters(coordinator, time.time_ns() // 1000)
    _pin(fs, rosters.fingerprint)
    return rosters.current


def _remote_roster(fs: RealFileSystem, operator: str) -> Roster:
    """The newest roster here; the coordinator is asked for newer ones while it does not name this operator."""
    roster = credentials.require_rosters(fs, time.time_ns() // 1000).current
    if any(entry.operator == operator for entry in roster.operators):
        return roster
    from coordinator.rpc.operator_courier import renew

    return renew(fs).current


def known_roster(operator_dir: Path, coordinator_dir: Path | None) -> Roster:
    """The newest roster that is on this machine; nobody is asked.

    Raises:
        ConfigError: there is none.
        RosterError: one breaks a rule.
    """
    if goes_over_network(operator_dir, coordinator_dir):
        return credentials.require_rosters(RealFileSystem(operator_dir), time.time_ns() // 1000).current
    return load_rosters(RealFileSystem(coordinator_dir or beside(operator_dir)), time.time_ns() // 1000).current


def beside(operator_dir: Path) -> Path:
    """The one coordinator directory beside an operator's. Raises ConfigError: there is none, or several."""
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


def _check_operator(roster: Roster, operator: str, public: bytes, *, enrolled: bool) -> None:
    entry = next((o for o in roster.operators if o.operator == operator), None)
    if entry is not None and entry.public == public:
        return
    request = (
        "The coordinator has your key request since you enrolled: another operator fetches it with `coordinator site "
        "requests`, the consortium root signs it"
        if enrolled
        else "The consortium root signs the key request that `coordinator operator init` wrote"
    )
    raise ConfigError(
        f"operator {operator}: not in roster version {roster.version}, or with another key",
        advice=f"{request}, and the new roster is installed at the coordinator.",
    )
