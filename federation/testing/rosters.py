# SPDX-License-Identifier: Apache-2.0
"""A consortium in memory: keys of everybody, and rosters signed by its root, broken on demand.

Its keys follow from names, so that a test meets the same bytes each time it runs: they protect nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import dsse, signing
from federation.certificates import Issuer, Issuers, Subject, der, make_issuer, spki
from federation.notes import default_origin
from federation.roster_document import CoordinatorEntry, OperatorEntry, Role, RootKey, Roster, SiteEntry
from federation.wire import roster_to_bytes

DAY_US = 24 * 3600 * 1_000_000

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""FIPS 186-5, curve P-256: private keys are 1 to this minus 1."""

_ISSUER_DAYS = 80 * 365
"""From 1970 on: valid at the small times that tests count in, and today."""


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
    tls_keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)

    def key(self, holder: str) -> Ed25519PrivateKey:
        """The private key of a holder."""
        if holder not in self.keys:
            self.keys[holder] = Ed25519PrivateKey.from_private_bytes(self._secret(holder))
        return self.keys[holder]

    def tls_key(self, holder: str) -> ec.EllipticCurvePrivateKey:
        """The TLS key of "site/lumi", "operator/alice", "coordinator", or of an issuer."""
        if holder not in self.tls_keys:
            number = int.from_bytes(self._secret(f"tls/{holder}"), "big") % (_P256_ORDER - 1) + 1
            self.tls_keys[holder] = ec.derive_private_key(number, ec.SECP256R1())
        return self.tls_keys[holder]

    def _secret(self, holder: str) -> bytes:
        return hashlib.sha256(f"{self.seed}/{self.name}/{holder}".encode()).digest()

    def tls_public(self, holder: str) -> bytes:
        """DER SubjectPublicKeyInfo of a holder's TLS key."""
        return spki(self.tls_key(holder))

    def issuer(self) -> Issuer:
        """The TLS issuer, as in the roster."""
        return self._issuer("TLS issuer")

    def enrolment_issuer(self) -> Issuer:
        """The coordinator's issuer for invites and renewals."""
        return self._issuer("enrolment issuer")

    def issuers(self) -> Issuers:
        """Both."""
        return Issuers(tls=self.issuer(), enrolment=self.enrolment_issuer())

    def certificate(self, subject: Subject, holder: str, now: float) -> x509.Certificate:
        """A holder's certificate for its TLS key, by the issuer that may certify the subject."""
        return self.issuers().issue(subject, self.tls_public(holder), now)

    def _issuer(self, what: str) -> Issuer:
        key = self.tls_key(what)
        name = f"{self.name} {what} {self.seed}".strip()
        return Issuer(key=key, certificate=make_issuer(name, key, 0.0, _ISSUER_DAYS))

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
                tls_public=self.tls_public("coordinator"),
            ),
            operators=tuple(self.operator_entry(name) for name in sorted(self.operators)),
            sites=tuple(self.site_entry(name) for name in sorted(self.sites)),
            tls_issuer=der(self.issuer().certificate),
        )

    def site_entry(self, site: str) -> SiteEntry:
        """The roster entry of a site."""
        update, witness = (self.public(f"site/{site}/{use}") for use in ("update", "witness"))
        tls = self.tls_public(f"site/{site}")
        return SiteEntry(site=site, tls_public=tls, update_public=update, witness_public=witness)

    def operator_entry(self, operator: str, roles: tuple[Role, ...] = (Role.OPERATOR,)) -> OperatorEntry:
        """The roster entry of an operator."""
        holder = f"operator/{operator}"
        return OperatorEntry(
            operator=operator, public=self.public(holder), roles=roles, tls_public=self.tls_public(holder)
        )

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
