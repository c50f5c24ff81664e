# SPDX-License-Identifier: Apache-2.0
"""theta of one version as a blob, for sites that lack a long chain of commit blobs. No evidence, only a convenience.

A snapshot is the real elements as raw little-endian fp32. No leaf names its blob; whoever uses it compares the fragment
digest with the commit leaf's. One per run and fragment is kept: a newer one replaces it, and mailboxes that still offer
the older one hold their own links to it.
"""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from coordinator.aggregation import Aggregation
from federation.blobs.store import BlobStore
from federation.chunks import FragmentHasher, little_endian_bytes
from federation.durable import FileSystem
from federation.errors import CorruptObjectError, FederationError, ObjectNotFoundError
from federation.ids import is_digest, short
from federation.manifest import Manifest
from federation.messages import Snapshot, SnapshotWanted
from federation.rounds import Federation, Run, Version
from federation.state.api import StateStore

LOG: Final = logging.getLogger("coordinator")
SNAPSHOTS: Final = "snapshots"
"""Directory of `<run>/<fragment>.json`: which blob is which version's snapshot, so that a restart can drop it too."""


@dataclass(kw_only=True)
class Snapshots:
    """Makes snapshots when they are asked for."""

    fs: FileSystem
    blobs: BlobStore
    states: StateStore
    aggregation: Aggregation
    manifest_of: Callable[[str], Manifest]
    _made: dict[tuple[str, int], Snapshot | None] = field(default_factory=dict)

    def answer(self, state: Federation, site: str, wanted: Iterable[SnapshotWanted]) -> tuple[Snapshot, ...]:
        """What a site may have of what it asked for: versions in force of its own runs, one per fragment.

        A version older than the one before the head is answered with that one: stored state goes no further back, and
        computing it again for everybody who asks would hold up the rounds.
        """
        found: dict[tuple[str, int], Snapshot] = {}
        for wish in wanted:
            run = state.runs.get(wish.run)
            if run is None or not run.is_member(site) or not 0 <= wish.fragment < len(run.versions):
                continue
            chain = run.versions[wish.fragment]
            if wish.version and any(version.number == wish.version for version in chain):
                version = max(chain[-2:][0], _of(chain, wish.version), key=lambda v: v.number)
                found[run.id, wish.fragment] = self._snapshot(state, run, wish.fragment, version)
        return tuple(found.values())

    def _snapshot(self, state: Federation, run: Run, fragment: int, version: Version) -> Snapshot:
        made = self._known(run.id, fragment)
        if made is not None and made.version == version.number and self.blobs.has(made.blob_digest):
            return made
        try:
            digest = self._make(run, fragment, version)
        except FederationError as error:  # a full disk, or damaged evidence: the site takes the chain of commits
            LOG.warning("run %s: no snapshot of version %d: %s", run.id, version.number, error.diagnostics())
            return Snapshot(run=run.id, fragment=fragment, version=version.number, blob_digest="")
        snapshot = Snapshot(run=run.id, fragment=fragment, version=version.number, blob_digest=digest)
        self._record(snapshot)
        if made is not None and made.blob_digest != digest:
            self._drop(state, made.blob_digest)
        return snapshot

    # --- making one -------------------------------------------------------------------------------------------------

    def _make(self, run: Run, fragment: int, version: Version) -> str:
        """The blob of a version; what the state store lacks is computed again.

        Raises:
            CorruptObjectError, ObjectNotFoundError, DigestMismatchError: it cannot be.
            DiskFullError: no space.
        """
        try:
            return self._copy(run.id, fragment, version)
        except (CorruptObjectError, ObjectNotFoundError):
            self.aggregation.ensure(run, self.manifest_of(run.id), fragment, version.number)
            digest = self._copy(run.id, fragment, version)
            self.aggregation.prune(run)
            return digest

    def _copy(self, run: str, fragment: int, version: Version) -> str:
        reader = self.states.open(run, fragment, version.number)
        if reader is None:
            raise ObjectNotFoundError(f"run {run}, fragment {fragment}: version {version.number} is not stored")
        hasher = FragmentHasher()
        with self.blobs.writer() as sink:
            for index in range(reader.grid.num_chunks):
                theta = reader.view_chunk(index).theta
                hasher.update(theta)
                sink.write(little_endian_bytes(theta))
            if hasher.hexdigest() != version.theta_digest:
                raise CorruptObjectError(
                    f"run {run}, fragment {fragment}, version {version.number}: expected theta "
                    f"{short(version.theta_digest)}, found {short(hasher.hexdigest())} in the state store"
                )
            return sink.finish()

    # --- remembering ------------------------------------------------------------------------------------------------

    def _known(self, run: str, fragment: int) -> Snapshot | None:
        if (run, fragment) not in self._made:
            self._made[run, fragment] = _read(self.fs, run, fragment)
        return self._made[run, fragment]

    def _record(self, snapshot: Snapshot) -> None:
        record = {"version": snapshot.version, "blob_digest": snapshot.blob_digest}
        self.fs.write(_path(snapshot.run, snapshot.fragment), json.dumps(record).encode())
        self._made[snapshot.run, snapshot.fragment] = snapshot

    def _drop(self, state: Federation, digest: str) -> None:
        """Deletes a blob, unless something else has the same bytes: another fragment, or a payload made to be alike."""
        others = {self._known(run.id, p) for run in state.runs.values() for p in range(len(run.versions))}
        if all(other is None or other.blob_digest != digest for other in others) and not _is_named(state, digest):
            self.blobs.delete(digest)


def _of(chain: tuple[Version, ...], number: int) -> Version:
    return next(version for version in chain if version.number == number)


def _path(run: str, fragment: int) -> str:
    return f"{SNAPSHOTS}/{run}/{fragment}.json"


def _read(fs: FileSystem, run: str, fragment: int) -> Snapshot | None:
    """What an earlier process recorded; an unreadable file is as good as none: the snapshot is made again."""
    path = _path(run, fragment)
    if not fs.exists(path):
        return None
    try:
        record = json.loads(fs.read(path))
        version, digest = int(record["version"]), str(record["blob_digest"])
    except (ValueError, KeyError, TypeError):
        return None
    if not is_digest(digest):
        return None
    return Snapshot(run=run, fragment=fragment, version=version, blob_digest=digest)


def _is_named(state: Federation, digest: str) -> bool:
    """Whether a verdict or commit of any run names this blob."""
    for run in state.runs.values():
        for found in run.rounds.values():
            named = {verdict.payload_digest for verdict in found.verdicts.values()}
            named |= {update.payload_digest for update in found.sealed}
            if digest in named or (found.commit is not None and found.commit.blob_digest == digest):
                return True
    return False
