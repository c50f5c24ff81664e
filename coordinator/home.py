# SPDX-License-Identifier: Apache-2.0
"""The coordinator's directory: which file is where, and how an open one is put together.

coordinator.toml                what the network sees, and how much of it: `network_config`
keys/{coordinator,ledger}.pem   made here, never leave
keys/tls.pem                    the server's; an operator's directory has its own under this name
keys/tls-issuer.{pem,crt}       certifies channels; the root signs the certificate into the roster
keys/enrolment-issuer.{pem,crt} certifies invites and renewals, which reach enrolment alone
root                            fingerprint of the consortium root, pinned by the first roster
rosters/<version>.roster        root-signed documents, exact bytes
ledger/ blobs/ state/           evidence, content-addressed blobs, (theta, m, r)
mailbox/<peer>/{in,out}         one per site and operator
snapshots/<run>/<fragment>.json which blob is a version's snapshot (made for late joiners, dropped at the next one)
exports/<digest>                marks a blob of metrics that is nobody's (dropped at the next start)
status/<site>.json              newest report of each site (volatile, bounded)
phases/<site>[.1].jsonl         when each site was first heard to train and upload in a round (volatile, bounded)
dashboard/                      the dashboard's own: server key, address, used links; it writes nowhere else
telemetry/<site>[.1].jsonl      step metrics, the older half under .1 (volatile, bounded)
dashboard/notices.json          which notices were told, and which are still to be sent (no evidence)
"""

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import signing
from federation.certificates import MAX_CERTIFICATE_BYTES, Issuer, Issuers, load_tls_key, read_issuer, spki, spki_of
from federation.durable import FileSystem
from federation.durable.real import RealFileSystem
from federation.errors import CertificateError, ConfigError, FederationError, ObjectNotFoundError
from federation.roster import TrustedRosters

COORDINATOR_KEY: Final = "keys/coordinator.pem"
LEDGER_KEY: Final = "keys/ledger.pem"
TLS_KEY: Final = "keys/tls.pem"
TLS_ISSUER: Final = "keys/tls-issuer"
ENROLMENT_ISSUER: Final = "keys/enrolment-issuer"
ROOT_FILE: Final = "root"
ROSTERS: Final = "rosters"
LEDGER: Final = "ledger"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The coordinator's two private keys: one signs messages, the other checkpoints."""

    coordinator: Ed25519PrivateKey
    ledger: Ed25519PrivateKey


def check_coordinator_directory(fs: RealFileSystem) -> None:
    """Before anything is written there. Raises ConfigError: it is another kind of directory."""
    if not fs.exists(COORDINATOR_KEY) and not fs.exists(LEDGER_KEY):
        raise ConfigError(f"{fs.root.resolve()}: expected a directory that `coordinator init` made")


def load_keys(fs: FileSystem) -> Keys:
    """Reads both keys.

    Raises:
        ConfigError: a key is missing or unreadable.
    """
    return Keys(
        coordinator=signing.load_private_key(fs, COORDINATOR_KEY), ledger=signing.load_private_key(fs, LEDGER_KEY)
    )


def load_issuers(fs: FileSystem) -> Issuers | None:
    """Both issuers; None in a directory that was made by a release without a network.

    Raises:
        ConfigError: a key or certificate is missing or unreadable, or they do not belong together.
    """
    if not any(fs.exists(f"{base}.{end}") for base in (TLS_ISSUER, ENROLMENT_ISSUER) for end in ("pem", "crt")):
        return None
    return Issuers(tls=_load_issuer(fs, TLS_ISSUER), enrolment=_load_issuer(fs, ENROLMENT_ISSUER))


def _load_issuer(fs: FileSystem, base: str) -> Issuer:
    key, path = load_tls_key(fs, f"{base}.pem"), f"{base}.crt"
    try:
        certificate = read_issuer(fs.read(path, max_bytes=MAX_CERTIFICATE_BYTES))
    except CertificateError as error:
        raise ConfigError(f"{path}: {error}", advice="Restore the file from a backup.") from error
    except (FederationError, OSError) as error:
        raise ConfigError(f"{path}: expected a readable certificate, found: {error}") from error
    if spki_of(certificate) != spki(key):
        raise ConfigError(f"{path}: expected the certificate of the key in {base}.pem, found another key's")
    return Issuer(key=key, certificate=certificate)


def roster_path(version: int) -> str:
    """Where the document of a roster version is kept."""
    return f"{ROSTERS}/{version:06d}.roster"


def load_rosters(fs: FileSystem, now_us: int) -> TrustedRosters:
    """All installed roster versions, verified in order from the pinned root fingerprint.

    Raises:
        ConfigError: none is installed.
        RosterError: a document breaks a rule.
    """
    names = fs.list(ROSTERS)
    try:
        fingerprint = fs.read(ROOT_FILE).decode().strip()
    except ObjectNotFoundError:
        fingerprint = ""
    if not names or not fingerprint:
        raise ConfigError(
            "no roster is installed",
            advice="Run `coordinator roster install DIR roster` with the document that the consortium root signed.",
        )
    return TrustedRosters.load((fs.read(f"{ROSTERS}/{name}") for name in names), fingerprint, now_us)
