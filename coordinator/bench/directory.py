# SPDX-License-Identifier: Apache-2.0
"""A coordinator's directory of a generated consortium, all but its ledger: keys, rosters, manifest."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from coordinator import home
from coordinator.bench.setting import AUDITOR, CONSORTIUM, OPERATORS, VIEWER, Setting
from coordinator.network_config import NETWORK_FILE, network_text
from federation import leaves as lv
from federation import signing, wire
from federation.blobs.store import BlobStore
from federation.certificates import Issuer, der, pem, save_tls_key
from federation.durable.real import RealFileSystem
from federation.errors import UsageError
from federation.roster import root_fingerprint
from federation.roster_document import Role, Roster
from federation.testing.rosters import MemoryConsortium

SECOND_SHARE: Final = 0.35
"""How long before the end the second roster was signed, as a share of the history's expected length."""


def consortium_of(setting: Setting) -> MemoryConsortium:
    """Everybody's keys; they follow from the seed and protect nothing."""
    return MemoryConsortium(name=CONSORTIUM, seed=str(setting.seed), sites=setting.sites, operators=OPERATORS)


def make_directory(directory: Path, setting: Setting, now_us: int) -> MemoryConsortium:
    """Writes keys, coordinator.toml, both rosters and the manifest; theta_0 stays a digest.

    Raises:
        UsageError: there is something already.
    """
    fs = RealFileSystem(directory)
    if fs.list(""):
        raise UsageError(f"{directory}: expected an empty directory, or none", advice="Choose another one.")
    consortium = consortium_of(setting)
    signing.save_private_key(fs, home.COORDINATOR_KEY, consortium.key("coordinator"))
    signing.save_private_key(fs, home.LEDGER_KEY, consortium.key("ledger"))
    save_tls_key(fs, home.TLS_KEY, consortium.tls_key("coordinator"))
    issuers = consortium.issuers()
    _save_issuer(fs, home.TLS_ISSUER, issuers.tls)
    _save_issuer(fs, home.ENROLMENT_ISSUER, issuers.enrolment)
    fs.write(NETWORK_FILE, network_text().encode())
    _save_rosters(fs, consortium, issuers.tls, setting, now_us)
    BlobStore(fs).put(wire.manifest_to_bytes(setting.manifest))
    return consortium


def _save_issuer(fs: RealFileSystem, base: str, issuer: Issuer) -> None:
    save_tls_key(fs, f"{base}.pem", issuer.key)
    fs.write(f"{base}.crt", pem(issuer.certificate))


def _save_rosters(
    fs: RealFileSystem, consortium: MemoryConsortium, issuer: Issuer, setting: Setting, now_us: int
) -> None:
    length_us = int(setting.expected_length.total_seconds() * 1e6)
    first = _with_readers(consortium, consortium.roster(1, now_us - length_us), issuer)
    age_us = int(SECOND_SHARE * length_us)
    issued_us = now_us - age_us
    second = replace(
        consortium.next(first), issued_at_us=issued_us, expires_at_us=first.expires_at_us + length_us - age_us
    )
    for roster in (first, second):
        document = consortium.document(roster)
        fs.write(home.roster_path(roster.version), document)
        BlobStore(fs).put(document)
    fs.write(home.ROOT_FILE, root_fingerprint(first).encode())


def _with_readers(consortium: MemoryConsortium, roster: Roster, issuer: Issuer) -> Roster:
    """Two who may only read, and the issuer whose certificate was written: each one made is another."""
    readers = (
        consortium.operator_entry(AUDITOR, (Role.AUDITOR,)),
        consortium.operator_entry(VIEWER, (Role.VIEWER,)),
    )
    operators = tuple(sorted((*roster.operators, *readers), key=lambda entry: entry.operator))
    return replace(roster, operators=operators, tls_issuer=der(issuer.certificate))


def roster_leaf(fs: RealFileSystem, setting: Setting, version: int) -> lv.RosterInstalledV1:
    """The leaf that says that a version came into force."""
    digest = BlobStore(fs).put(fs.read(home.roster_path(version)))
    return lv.RosterInstalledV1(version=version, digest=digest, sites=setting.sites)
