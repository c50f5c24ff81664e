# SPDX-License-Identifier: Apache-2.0
"""Who this site is: its id and its private keys. They stay in the agent; no job ever sees one."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation import signing
from federation.certificates import generate_tls_key, load_tls_key, save_tls_key, spki
from federation.durable.api import FileSystem
from federation.errors import ConfigError
from federation.key_requests import site_request
from federation.roster import Roster
from site_agent import layout


@dataclass(frozen=True, kw_only=True)
class SiteIdentity:
    """A site's id and keys: `update` signs messages, updates and evaluations, `witness` cosigns the ledger."""

    site: str
    update: Ed25519PrivateKey
    witness: Ed25519PrivateKey


def job_tag(identity: SiteIdentity) -> str:
    """What tells this site's jobs from those of other directories of the same user: its id and a part of its key."""
    digest = hashlib.sha256(signing.public_bytes(identity.update)).hexdigest()
    return f"{identity.site}-{digest[:8]}"


class Listing(StrEnum):
    """What a roster says of the site of a directory."""

    ABSENT = "absent"
    OTHER_KEYS = "other-keys"
    MEMBER = "member"


def listing(fs: FileSystem, site: str, roster: Roster) -> Listing:
    """Whether the roster names the site, with the keys that lie in its directory. Makes no key.

    Raises:
        ConfigError: a key is missing or unreadable.
    """
    entry = next((found for found in roster.sites if found.site == site), None)
    if entry is None:
        return Listing.ABSENT
    identity = load_identity(fs, site)
    own = [signing.public_bytes(identity.update), signing.public_bytes(identity.witness)]
    listed = [entry.update_public, entry.witness_public]
    if fs.exists(layout.TLS_KEY) and not _is_ed25519(fs, layout.TLS_KEY):
        own.append(spki(load_tls_key(fs, layout.TLS_KEY)))
        listed.append(entry.tls_public)
    return Listing.MEMBER if own == listed else Listing.OTHER_KEYS


LISTING_ADVICE: Final[dict[Listing, str]] = {
    Listing.MEMBER: "",
    Listing.ABSENT: "That roster does not name this site yet: its key holders have to sign the site's request.",
    Listing.OTHER_KEYS: (
        "That roster names this site with other keys than those in this directory: the consortium root has to sign "
        "the site's new request (`site-agent enroll SITE_DIR --request FILE` writes it)."
    ),
}
"""What follows for the operator, in words; "" if nothing."""


def make_identity(fs: FileSystem, site: str) -> bytes:
    """Makes the site's three keys in its directory and returns the request for a roster entry.

    Raises:
        UsageError: a key is there already.
        ConfigError: `site` is no id.
    """
    update, witness, tls = signing.generate_key(), signing.generate_key(), generate_tls_key()
    request = site_request(site, update=update, witness=witness, tls_public=spki(tls))
    for path, key in ((layout.UPDATE_KEY, update), (layout.WITNESS_KEY, witness), (layout.TLS_KEY, tls)):
        signing.save_private_key(fs, path, key)
    return request


def request_of(fs: FileSystem, site: str) -> bytes:
    """The request for the keys that lie in the directory: the same bytes each time.

    A TLS key is made if there is none. That of release 0.1 counts as none: nothing ever used it, and nothing can.

    Raises:
        ConfigError: a key is missing or unreadable.
    """
    identity = load_identity(fs, site)
    if _is_ed25519(fs, layout.TLS_KEY):
        fs.remove(layout.TLS_KEY)
    if not fs.exists(layout.TLS_KEY):
        save_tls_key(fs, layout.TLS_KEY, generate_tls_key())
    tls = load_tls_key(fs, layout.TLS_KEY)
    return site_request(site, update=identity.update, witness=identity.witness, tls_public=spki(tls))


def _is_ed25519(fs: FileSystem, path: str) -> bool:
    try:
        signing.load_private_key(fs, path)
    except ConfigError:
        return False
    return True


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
