# SPDX-License-Identifier: Apache-2.0
"""Rebuilding (theta, m, r) from the ledger and the payloads where a stored version is missing or damaged."""

from collections.abc import Sequence
from dataclasses import dataclass

from federation.aggregate import Blobs, commit_round, first_digests, is_intact
from federation.errors import DigestMismatchError, ObjectNotFoundError
from federation.ids import short
from federation.leaves import SealedUpdate
from federation.manifest import Manifest
from federation.rounds import Run
from federation.state.api import StateDigests, StateStore


@dataclass(frozen=True, kw_only=True)
class CommitRecord:
    """One commit of a fragment as the ledger has it; its version's number is round + 1."""

    round: int
    base_version: int
    sealed: tuple[SealedUpdate, ...]
    blob_digest: str
    digests: StateDigests

    @property
    def version(self) -> int:
        """Number of the version that this commit made."""
        return self.round + 1


def commit_chain(state: Run, fragment: int) -> tuple[CommitRecord, ...]:
    """The commits in force of a fragment, oldest first, from the folded ledger."""
    return tuple(
        CommitRecord(
            round=version.number - 1,
            base_version=state.rounds[version.number - 1].base_version,
            sealed=state.rounds[version.number - 1].sealed,
            blob_digest=version.blob_digest,
            digests=StateDigests(
                theta=version.theta_digest, momentum=version.momentum_digest, residual=version.residual_digest
            ),
        )
        for version in state.versions[fragment]
        if version.number
    )


def rebuild(
    store: StateStore,
    blobs: Blobs,
    run: str,
    manifest: Manifest,
    fragment: int,
    chain: Sequence[CommitRecord],
    num_threads: int = 1,
) -> int:
    """Makes the chain's last version present and intact; returns how many commits had to be computed again.

    It starts from the newest version whose three digests are recorded and found (version 0 at the latest) and repeats
    what followed. Of a commit whose m and r are not recorded yet, only theta and the blob can be compared.

    Raises:
        ObjectNotFoundError: version 0 is not intact (write it with `initial_state`), or a payload is gone.
        CorruptObjectError: a payload's bytes have another digest.
        DigestMismatchError: the repetition gives other bits than the ledger records.
    """
    num_elements = manifest.fragments[fragment].num_elements
    known = first_digests(manifest, fragment)
    start = len(chain)
    while start and not _is_trusted(store, run, fragment, chain[start - 1], num_elements, num_threads):
        start -= 1
    if not start and not make_intact(store, run, fragment, 0, num_elements, known, num_threads):
        raise ObjectNotFoundError(
            f"run {run}, fragment {fragment}: expected version 0 with theta {short(known.theta)}, found none intact",
            advice="Write version 0 from the run's initial parameters first.",
        )
    known = chain[start - 1].digests if start else known
    for record in chain[start:]:
        known = _repeat(store, blobs, run, manifest, fragment, record, known, num_threads)
        newer = {version for version in store.versions(run, fragment) if version > record.version}
        current = {record.base_version, record.version} | newer
        store.prune(run, fragment, current=current, in_force=[other.version for other in chain])
    return len(chain) - start


def make_intact(
    store: StateStore,
    run: str,
    fragment: int,
    version: int,
    num_elements: int,
    expected: StateDigests,
    num_threads: int = 1,
) -> bool:
    """`is_intact` of any copy that the store has; damaged ones before it are removed, so that `open` gives that one."""
    while not is_intact(store, run, fragment, version, num_elements, expected, num_threads):
        if not store.drop_copy(run, fragment, version):
            return False
    return True


def _is_trusted(
    store: StateStore, run: str, fragment: int, record: CommitRecord, num_elements: int, num_threads: int
) -> bool:
    digests = record.digests
    return bool(digests.momentum and digests.residual) and make_intact(
        store, run, fragment, record.version, num_elements, digests, num_threads
    )


def _repeat(
    store: StateStore,
    blobs: Blobs,
    run: str,
    manifest: Manifest,
    fragment: int,
    record: CommitRecord,
    base: StateDigests,
    num_threads: int,
) -> StateDigests:
    result = commit_round(
        blobs,
        store,
        run,
        manifest,
        record.round,
        fragment,
        record.base_version,
        record.sealed,
        expected=base,
        durable=record.version % manifest.snapshot_every_rounds == 0,
        num_threads=num_threads,
    )
    pairs = (
        ("blob", record.blob_digest, result.blob_digest),
        ("theta", record.digests.theta, result.theta_digest),
        ("momentum", record.digests.momentum, result.momentum_digest),
        ("residual", record.digests.residual, result.residual_digest),
    )
    for name, expected, found in pairs:
        if expected and expected != found:
            store.delete(run, fragment, record.version)
            raise DigestMismatchError(
                f"run {run}, round {record.round}: expected {name} {short(expected)} as the ledger records, "
                f"found {short(found)} when computed again",
                advice="Check this machine with the golden vectors, then the payloads.",
            )
    return result.state_digests
