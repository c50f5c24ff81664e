# SPDX-License-Identifier: Apache-2.0
"""A consortium in memory: keys of everybody, and rosters signed by its root, broken on demand.

Its keys follow from names, so that a test meets the same bytes each time it runs: they protect nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import dsse, signing
from federation.notes import default_origin
from federation.roster_document import CoordinatorEntry, OperatorEntry, Role, RootKey, Roster, SiteEntry
from federation.wire import roster_to_bytes

DAY_US = 24 * 3600 * 1_000_000


@dataclass(kw_only=True)
class MemoryConsortium:
    """Keys by holder ("site/lumi/update", "operator/alice", "coordinator", "ledger"); another `seed`, other keys."""

    name: str = "eu"
    seed: str = ""
    sites: tuple[str, ...] = ("jupiter", "lumi")
    operators: tuple[str, ...] = ("alice",)
    num_root_keys: int = 1
    threshold: int = 1
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)

    def key(self, holder: str) -> Ed25519PrivateKey:
        """The private key of a holder."""
        if holder not in self.keys:
            secret = hashlib.sha256(f"{self.seed}/{self.name}/{holder}".encode()).digest()
            self.keys[holder] = Ed25519PrivateKey.from_private_bytes(secret)
        return self.keys[holder]

    def public(self, holder: str) -> bytes:
        """The raw public key of a holder."""
        return signing.public_bytes(self.key(holder))

    def root_keys(self) -> list[Ed25519PrivateKey]:
        """The root's private keys."""
        return [self.key(f"root/{number}") for number in range(1, self.num_root_keys + 1)]

    def roster(self, version: int = 1, now_us: int = 0) -> Roster:
        """A roster that obeys every rule, valid for a year from `now_us`."""
        publics = sorted(signing.public_bytes(key) for key in self.root_keys())
        return Roster(
            consortium=self.name,
            version=version,
            issued_at_us=now_us,
            expires_at_us=now_us + 365 * DAY_US,
            threshold=self.threshold,
            root_keys=tuple(RootKey(public=public) for public in publics),
            coordinator=CoordinatorEntry(
                public=self.public("coordinator"),
                ledger_origin=default_origin(self.name),
                ledger_public=self.public("ledger"),
            ),
            operators=tuple(
                OperatorEntry(operator=name, public=self.public(f"operator/{name}"), roles=(Role.OPERATOR,))
                for name in sorted(self.operators)
            ),
            sites=tuple(self.site_entry(name) for name in sorted(self.sites)),
        )

    def site_entry(self, site: str) -> SiteEntry:
        """The roster entry of a site."""
        tls, update, witness = (self.public(f"site/{site}/{use}") for use in ("tls", "update", "witness"))
        return SiteEntry(site=site, tls_public=tls, update_public=update, witness_public=witness)

    def document(self, roster: Roster | None = None, signers: Sequence[Ed25519PrivateKey] | None = None) -> bytes:
        """A roster document; signed by as many root keys as the threshold asks for, unless told otherwise."""
        payload = roster_to_bytes(self.roster() if roster is None else roster)
        first, *others = self.root_keys()[: self.threshold] if signers is None else signers
        envelope = dsse.sign_envelope(dsse.ROSTER_TYPE, payload, first)
        for key in others:
            envelope = dsse.add_signature(envelope, key)
        return envelope

    def next(self, roster: Roster) -> Roster:
        """The same members, one version later."""
        return replace(roster, version=roster.version + 1)
