# SPDX-License-Identifier: Apache-2.0
"""The trusted rosters of one consortium: documents are accepted in a fixed order of checks, and only then held.

Anchor: the first document is trusted because its root keys have a fingerprint that came from outside (`--root`).

Each further document passes these steps, in this order:

1. it is an envelope of a roster, within limits;
2. the threshold of the *trusted* root keys signed it;
3. it is of the same consortium;
4. its version is the trusted one plus exactly 1;
5. it obeys the rules of a roster (`check_roster`);
6. the threshold of *its own* root keys signed it (the same keys as in 2 unless the root changed);
7. it was not issued in the future and has not expired at the time that the caller gives.

Not here: files, network, clocks. A caller's misuse is a RuntimeError, bad documents are RosterError.
"""

import hashlib
from collections.abc import Iterable
from typing import Final, Self

from federation import dsse, notes, signing
from federation.errors import FederationError, RosterError, UnknownSiteError
from federation.ids import COORDINATOR
from federation.roster_document import (
    CoordinatorEntry,
    KeyRequest,
    KeyUse,
    OperatorEntry,
    RequestedKey,
    RequestKind,
    Role,
    RootKey,
    Roster,
    SiteEntry,
)
from federation.roster_rules import check_roster
from federation.wire import roster_from_bytes

__all__ = [
    "CoordinatorEntry",
    "KeyRequest",
    "KeyUse",
    "OperatorEntry",
    "RequestKind",
    "RequestedKey",
    "Role",
    "RootKey",
    "Roster",
    "SiteEntry",
    "TrustedRosters",
    "check_roster",
    "peek_roster",
    "root_fingerprint",
    "root_publics",
    "roster_digest",
]

MAX_CLOCK_SKEW_US: Final = 24 * 3600 * 1_000_000
"""How far a signer's clock may be ahead of the reader's."""


def root_fingerprint(roster: Roster) -> str:
    """What `--root` takes: SHA-256 over consortium, threshold and root keys, in lower-case hexadecimal.

    Hashed are lines of text: a title, the consortium, the threshold, then each root key in hexadecimal, ascending.
    """
    keys = sorted(key.public.hex() for key in roster.root_keys)
    lines = ["hpc-federation consortium root v1", roster.consortium, str(roster.threshold), *keys]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def root_publics(roster: Roster) -> dict[str, bytes]:
    """Root keys by key id, as `dsse.open_threshold` takes them."""
    return {signing.key_id(key.public): key.public for key in roster.root_keys}


def roster_digest(document: bytes) -> str:
    """SHA-256 of what was signed: the same for two copies that carry different subsets of signatures.

    Raises:
        ProtocolError, LimitExceededError: not a roster's envelope.
    """
    return hashlib.sha256(dsse.peek_payload(document, dsse.ROSTER_TYPE)).hexdigest()


def peek_roster(document: bytes) -> Roster:
    """The roster in a document WITHOUT any verification, for display and for its signers.

    Raises:
        RosterError: not a roster document.
    """
    try:
        return roster_from_bytes(dsse.peek_payload(document, dsse.ROSTER_TYPE))
    except FederationError as error:
        raise RosterError(f"roster: {error}") from error


class TrustedRosters:
    """All roster versions that were accepted, oldest first, with their exact documents."""

    def __init__(self) -> None:
        self._fingerprint = ""
        self._rosters: list[Roster] = []
        self._documents: list[bytes] = []

    @classmethod
    def load(cls, documents: Iterable[bytes], fingerprint: str, now_us: int) -> Self:
        """Trusts again what was installed before: the anchor first, then each next version, ascending.

        Expiry is not looked at: they were installed in their time, and an expired roster must not keep a party from
        reading its own past or from installing the next one. See `expired`.

        Raises:
            RosterError: one of them breaks a rule, or there is none.
        """
        rosters = cls()
        for document in documents:
            if rosters._rosters:
                rosters._accept(document, now_us, check_expiry=False)
            else:
                rosters.anchor(document, fingerprint)
        if not rosters._rosters:
            raise RosterError("rosters: expected at least one document, found none")
        return rosters

    def anchor(self, document: bytes, fingerprint: str) -> Roster:
        """Trusts a first document of any version, because its root has the fingerprint.

        Raises:
            RosterError: another root, too few signatures, or a broken rule.
            RuntimeError: the caller's bug: there is an anchor already.
        """
        if self._rosters:
            raise RuntimeError("anchor: expected no trusted roster yet, found one")
        roster = peek_roster(document)
        found = root_fingerprint(roster)
        if found != fingerprint:
            raise RosterError(
                f"consortium root: expected fingerprint {fingerprint}, found {found}",
                advice="Ask a root key holder for the fingerprint, over another channel than the roster came by.",
            )
        check_roster(roster)
        _check_signatures(document, roster, "its own root")
        self._fingerprint = fingerprint
        self._hold(roster, document)
        return roster

    def update(self, document: bytes, now_us: int) -> Roster:
        """Accepts the next version; one that is held already (same signed bytes) is returned as it is.

        Args:
            document: a root-signed roster, exact bytes.
            now_us: the caller's clock; an auditor gives the time at which the document came into force.

        Raises:
            RosterError: it breaks a rule; what is trusted does not change.
            RuntimeError: the caller's bug: there is no anchor.
        """
        return self._accept(document, now_us, check_expiry=True)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the root that the anchor was accepted by."""
        return self._fingerprint

    @property
    def current(self) -> Roster:
        """The newest accepted roster. Raises RuntimeError if there is no anchor."""
        if not self._rosters:
            raise RuntimeError("expected a trusted roster, found no anchor")
        return self._rosters[-1]

    @property
    def versions(self) -> tuple[int, ...]:
        """Accepted versions, ascending, without a gap."""
        return tuple(roster.version for roster in self._rosters)

    def at(self, version: int) -> Roster:
        """The roster of that version. Raises RosterError if it is not held."""
        return self._rosters[self._index(version)]

    def document(self, version: int) -> bytes:
        """Exact bytes of that version's document. Raises RosterError if it is not held."""
        return self._documents[self._index(version)]

    def expired(self, now_us: int) -> bool:
        """Whether the newest roster has expired: then nothing new should be started on its strength."""
        return now_us >= self.current.expires_at_us

    def site(self, site: str) -> SiteEntry:
        """The site's entry in the newest roster. Raises UnknownSiteError."""
        for entry in self.current.sites:
            if entry.site == site:
                return entry
        raise UnknownSiteError(f"site: expected one of roster version {self.current.version}, found {site!r:.60}")

    def operator(self, operator: str) -> OperatorEntry:
        """The operator's entry in the newest roster. Raises UnknownSiteError."""
        for entry in self.current.operators:
            if entry.operator == operator:
                return entry
        raise UnknownSiteError(
            f"operator: expected one of roster version {self.current.version}, found {operator!r:.60}"
        )

    def coordinator(self) -> CoordinatorEntry:
        """The coordinator's entry in the newest roster. Raises RosterError if it names none."""
        if self.current.coordinator is None:
            raise RosterError(
                f"roster version {self.current.version}: expected a coordinator, found none",
                advice="Have the coordinator's request signed into the next roster.",
            )
        return self.current.coordinator

    def sender_public(self, sender: str) -> bytes:
        """The key that signs this sender's envelopes, for the coordinator, a site or an operator.

        Raises:
            UnknownSiteError: the newest roster does not name the sender.
        """
        roster = self.current
        publics = {entry.operator: entry.public for entry in roster.operators}
        publics |= {entry.site: entry.update_public for entry in roster.sites}
        if roster.coordinator is not None:
            publics[COORDINATOR] = roster.coordinator.public
        if sender not in publics:
            raise UnknownSiteError(f"sender: expected one of roster version {roster.version}, found {sender!r:.60}")
        return publics[sender]

    def witness_publics(self) -> dict[str, bytes]:
        """The newest roster's witness keys by the names that they have on signed notes."""
        roster = self.current
        return {notes.witness_name(roster.consortium, entry.site): entry.witness_public for entry in roster.sites}

    def _index(self, version: int) -> int:
        index = version - self.current.version + len(self._rosters) - 1
        if not 0 <= index < len(self._rosters):
            raise RosterError(f"roster version: expected one of {self.versions}, found {version}")
        return index

    def _accept(self, document: bytes, now_us: int, *, check_expiry: bool) -> Roster:
        trusted = self.current
        roster = peek_roster(document)  # 1
        if self._holds(roster, document):
            return self.at(roster.version)
        _check_signatures(document, trusted, f"the root of version {trusted.version}")  # 2
        if roster.consortium != trusted.consortium:  # 3
            raise RosterError(f"roster: expected consortium {trusted.consortium}, found {roster.consortium}")
        if roster.version != trusted.version + 1:  # 4
            raise RosterError(
                f"roster: expected version {trusted.version + 1}, found {roster.version}",
                advice="Install the versions one after the other, without a gap.",
            )
        check_roster(roster)  # 5
        _check_signatures(document, roster, "its own root")  # 6
        _check_times(roster, now_us, check_expiry=check_expiry)  # 7
        self._hold(roster, document)
        return roster

    def _holds(self, roster: Roster, document: bytes) -> bool:
        """Whether exactly this signed payload was accepted before; then nothing about it needs to be checked again."""
        if roster.version not in self.versions:
            return False
        return roster_digest(self.document(roster.version)) == roster_digest(document)

    def _hold(self, roster: Roster, document: bytes) -> None:
        self._rosters.append(roster)
        self._documents.append(document)


def _check_signatures(document: bytes, root: Roster, whose: str) -> None:
    try:
        dsse.open_threshold(document, dsse.ROSTER_TYPE, root_publics(root), root.threshold)
    except FederationError as error:
        raise RosterError(f"roster: signatures of {whose}: {error}") from error


def _check_times(roster: Roster, now_us: int, *, check_expiry: bool) -> None:
    if roster.issued_at_us > now_us + MAX_CLOCK_SKEW_US:
        raise RosterError(
            f"roster version {roster.version}: issued {(roster.issued_at_us - now_us) // 1_000_000} seconds from now",
            advice="Check the clock of this machine, and that of the one where the roster was signed.",
        )
    if check_expiry and now_us >= roster.expires_at_us:
        raise RosterError(
            f"roster version {roster.version}: expired {(now_us - roster.expires_at_us) // 1_000_000} seconds ago",
            advice="Ask the consortium's root for a renewed roster.",
        )
