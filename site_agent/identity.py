# SPDX-License-Identifier: Apache-2.0
"""Who this site is: its id and its private keys. They stay in the agent; no job ever sees one."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import signing
from federation.durable.api import FileSystem
from federation.key_requests import site_request
from site_agent import layout


@dataclass(frozen=True, kw_only=True)
class SiteIdentity:
    """A site's id and keys: `update` signs messages, updates and evaluations, `witness` cosigns the ledger."""

    site: str
    update: Ed25519PrivateKey
    witness: Ed25519PrivateKey


def make_identity(fs: FileSystem, site: str) -> bytes:
    """Makes the site's three keys in its directory and returns the request for a roster entry.

    Raises:
        UsageError: a key is there already.
        ConfigError: `site` is no id.
    """
    update, witness, tls = signing.generate_key(), signing.generate_key(), signing.generate_key()
    request = site_request(site, update=update, witness=witness, tls=tls)
    for path, key in ((layout.UPDATE_KEY, update), (layout.WITNESS_KEY, witness), (layout.TLS_KEY, tls)):
        signing.save_private_key(fs, path, key)
    return request


def load_identity(fs: FileSystem, site: str) -> SiteIdentity:
    """Reads the keys that the agent signs with.

    Raises:
        ConfigError: a key is missing or unreadable.
    """
    return SiteIdentity(
        site=site,
        update=signing.load_private_key(fs, layout.UPDATE_KEY),
        witness=signing.load_private_key(fs, layout.WITNESS_KEY),
    )
