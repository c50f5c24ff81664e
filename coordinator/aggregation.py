# SPDX-License-Identifier: Apache-2.0
"""Carries out `Aggregate` and `RecordState`: computes a sealed round's commit from blobs and outer state.

Every step can be repeated after a crash and gives the same bits; nothing here decides. Stored state is a cache: a
version that is missing or is not what the ledger says is rebuilt from the signed updates.
"""

from dataclasses import dataclass, field

from coordinator.inputs import RoundAggregated, StateDigested
from federation.aggregate import CommitResult, commit_round, first_digests, initial_state, is_intact
from federation.blobs.store import BlobStore
from federation.errors import CorruptObjectError, ObjectNotFoundError
from federation.initial_model import read_fragments
from federation.manifest import NUMERICS_VERSION, Manifest
from federation.rebuild import commit_chain, rebuild
from federation.rounds import Run
from federation.state.api import StateDigests, StateStore


@dataclass(kw_only=True)
class Aggregation:
    """Computes commits; remembers the digests of m and r until they are recorded."""

    blobs: BlobStore
    states: StateStore
    _results: dict[tuple[str, int], CommitResult] = field(default_factory=dict)

    def aggregate(self, run: Run, manifest: Manifest, number: int) -> RoundAggregated:
        """The commit of a sealed round; its blob and new state version are durable when this returns.

        Raises:
            CorruptObjectError, ObjectNotFoundError: evidence is damaged; nothing was committed.
        """
        result = self._commit(run, manifest, number)
        self._results[(run.id, number)] = result
        return RoundAggregated(
            run=run.id,
            round=number,
            theta_digest=result.theta_digest,
            blob_digest=result.blob_digest,
            blob_bytes=result.blob_bytes,
            aggregate_norm=result.aggregate_norm,
            contributions=result.contributions,
            numerics_version=NUMERICS_VERSION,
        )

    def record(self, run: Run, manifest: Manifest, number: int, fragment: int) -> StateDigested:
        """Digests of m and r of a committed version; computed again where a restart has forgotten them."""
        result = self._results.pop((run.id, number), None) or self._commit(run, manifest, number)
        return StateDigested(
            run=run.id,
            round=number,
            fragment=fragment,
            momentum_digest=result.momentum_digest,
            residual_digest=result.residual_digest,
        )

    def ensure(self, run: Run, manifest: Manifest, fragment: int, version: int) -> int:
        """Makes a version in force present and intact; returns how many commits had to be computed again.

        Raises:
            CorruptObjectError, ObjectNotFoundError: a blob that the ledger names is damaged or missing.
            DigestMismatchError: computing again gives other bits than the ledger records.
        """
        zero = first_digests(manifest, fragment)
        num_elements = manifest.fragments[fragment].num_elements
        if not is_intact(self.states, run.id, fragment, 0, num_elements, zero):
            initial_state(self.states, run.id, manifest, read_fragments(self.blobs, manifest))
        chain = [record for record in commit_chain(run, fragment) if record.version <= version]
        return rebuild(self.states, self.blobs, run.id, manifest, fragment, chain) if chain else 0

    def prune(self, run: Run) -> None:
        """Drops versions that are neither the first, current, the one before nor under way; the ledger rebuilds any."""
        for fragment, chain in enumerate(run.versions):
            keep = {0} | {version.number for version in chain[-2:]} | {number + 1 for number in run.open_rounds}
            for number in self.states.versions(run.id, fragment):
                if number not in keep:
                    self.states.delete(run.id, fragment, number)

    def _commit(self, run: Run, manifest: Manifest, number: int) -> CommitResult:
        try:
            return self._commit_once(run, manifest, number)
        except (CorruptObjectError, ObjectNotFoundError):  # the cache, or evidence: then this raises again
            found = run.rounds[number]
            self.ensure(run, manifest, found.fragment, found.base_version)
            return self._commit_once(run, manifest, number)

    def _commit_once(self, run: Run, manifest: Manifest, number: int) -> CommitResult:
        found = run.rounds[number]
        return commit_round(
            self.blobs,
            self.states,
            run.id,
            manifest,
            number,
            found.fragment,
            found.base_version,
            found.sealed,
            expected=_base_digests(run, manifest, found.fragment, found.base_version),
            durable=(number + 1) % manifest.snapshot_every_rounds == 0,
        )


def _base_digests(run: Run, manifest: Manifest, fragment: int, version: int) -> StateDigests:
    if version == 0:
        return first_digests(manifest, fragment)
    found = next(v for v in run.versions[fragment] if v.number == version)
    return StateDigests(theta=found.theta_digest, momentum=found.momentum_digest, residual=found.residual_digest)
