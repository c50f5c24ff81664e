# SPDX-License-Identifier: Apache-2.0
"""What a roster and a request for one say: plain data. `federation.roster` and `federation.key_requests` verify them.

Public keys are raw Ed25519 keys (32 bytes), but for `tls_public`: DER SubjectPublicKeyInfo of an ECDSA key on P-256,
b"" where a party has no TLS identity. (gRPC's TLS takes no Ed25519 certificates.)
"""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What an operator's key may do."""

    OPERATOR = "operator"
    """Commands that change a run."""

    AUDITOR = "auditor"
    """Reads everything, raw updates included."""

    VIEWER = "viewer"
    """Reads views."""


@dataclass(frozen=True, kw_only=True)
class RootKey:
    """One key of the consortium's root."""

    public: bytes


@dataclass(frozen=True, kw_only=True)
class CoordinatorEntry:
    """The coordinator: envelope key, its ledger's origin line and key, TLS identity."""

    public: bytes
    ledger_origin: str
    ledger_public: bytes
    tls_public: bytes = b""


@dataclass(frozen=True, kw_only=True)
class OperatorEntry:
    """One operator or auditor."""

    operator: str
    public: bytes
    roles: tuple[Role, ...]
    tls_public: bytes = b""


@dataclass(frozen=True, kw_only=True)
class SiteEntry:
    """One site: TLS identity of its channels, key of its envelopes and updates, key of its cosignatures."""

    site: str
    tls_public: bytes
    update_public: bytes
    witness_public: bytes


@dataclass(frozen=True, kw_only=True)
class Roster:
    """Who belongs to a consortium.

    Attributes:
        version: 1 in the first document, 1 more in each that follows.
        issued_at_us, expires_at_us: microseconds since 1970; after the latter nobody installs this document.
        threshold: root keys that must sign this document and its successor.
        root_keys: ascending by public key.
        coordinator: None until its request was signed in.
        operators, sites: ascending by id.
        tls_issuer: DER certificate of the authority for channel certificates, b"" for none.
    """

    consortium: str
    version: int
    issued_at_us: int
    expires_at_us: int
    threshold: int
    root_keys: tuple[RootKey, ...]
    coordinator: CoordinatorEntry | None = None
    operators: tuple[OperatorEntry, ...] = ()
    sites: tuple[SiteEntry, ...] = ()
    tls_issuer: bytes = b""


class RequestKind(StrEnum):
    """Who asks to be put into a roster."""

    SITE = "site"
    OPERATOR = "operator"
    COORDINATOR = "coordinator"


class KeyUse(StrEnum):
    """What a requested key is for."""

    ENVELOPES = "envelopes"
    WITNESS = "witness"
    TLS = "tls"
    LEDGER = "ledger"


@dataclass(frozen=True, kw_only=True)
class RequestedKey:
    """One public key and its use."""

    use: KeyUse
    public: bytes


@dataclass(frozen=True, kw_only=True)
class KeyRequest:
    """Public keys that ask to be put into a roster.

    Attributes:
        id: site or operator id; "coordinator" for the coordinator.
        roles: what an operator asks for; () for others.
        ledger_origin: origin line of the coordinator's ledger; "" leaves it to the root.
        tls_issuer: DER certificate of the coordinator's authority for channel certificates; b"" for others.
    """

    kind: RequestKind
    id: str
    keys: tuple[RequestedKey, ...]
    roles: tuple[Role, ...] = ()
    ledger_origin: str = ""
    tls_issuer: bytes = b""

    def key(self, use: KeyUse) -> bytes:
        """The public key of this use, b"" if the request has none."""
        return next((key.public for key in self.keys if key.use is use), b"")
