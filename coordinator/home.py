# SPDX-License-Identifier: Apache-2.0
"""The coordinator's directory: which file is where, and how an open one is put together.

keys/{coordinator,ledger}.pem   made here, never leave
root                            fingerprint of the consortium root, pinned by the first roster
rosters/<version>.roster        root-signed documents, exact bytes
ledger/ blobs/ state/           evidence, content-addressed blobs, (theta, m, r)
mailbox/<peer>/{in,out}         one per site and operator
snapshots/<run>/<fragment>.json which blob is a version's snapshot (made for late joiners, dropped at the next one)
status/<site>.json              newest report of each site (volatile, bounded)
telemetry/<site>.jsonl          step metrics (volatile, bounded)
"""

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import signing
from federation.durable import FileSystem
from federation.errors import ConfigError, ObjectNotFoundError
from federation.roster import TrustedRosters

COORDINATOR_KEY: Final = "keys/coordinator.pem"
LEDGER_KEY: Final = "keys/ledger.pem"
ROOT_FILE: Final = "root"
ROSTERS: Final = "rosters"
LEDGER: Final = "ledger"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The coordinator's two private keys: one signs messages, the other checkpoints."""

    coordinator: Ed25519PrivateKey
    ledger: Ed25519PrivateKey


def load_keys(fs: FileSystem) -> Keys:
    """Reads both keys.

    Raises:
        ConfigError: a key is missing or unreadable.
    """
    return Keys(
        coordinator=signing.load_private_key(fs, COORDINATOR_KEY), ledger=signing.load_private_key(fs, LEDGER_KEY)
    )


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
