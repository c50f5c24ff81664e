# SPDX-License-Identifier: Apache-2.0
"""Carries out `Aggregate` and `RecordState`: computes a sealed round's commit from blobs and outer state.

Every step can be repeated after a crash and gives the same bits; nothing here decides. Stored state is a cache: a
version that is missing or is not what the ledger says is rebuilt from the signed updates.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Final

from coordinator.inputs import RoundAggregated, StateDigested
from federation.aggregate import (
    CommitResult,
    commit_round,
    first_digests,
    initial_state,
    state_digests,
)
from federation.blobs.store import BlobStore
from federation.errors import CorruptObjectError, FederationError, ObjectNotFoundError
from federation.golden import require_golden_vectors
from federation.manifest import NUMERICS_VERSION, Manifest
from federation.rebuild import commit_chain, make_intact, rebuild
from federation.rounds import RoundState, Run
from federation.state.api import StateDigests, StateStore
from federation.state.background import Background, Courtesy
from federation.tensor_file import open_theta

LOG: Final = logging.getLogger("coordinator")
SMALL_ELEMENTS: Final = 2**22
"""Fragments up to this size have all their digests computed with the commit: that takes a few milliseconds."""
_GRACE_SECONDS: Final = 0.02


@dataclass(kw_only=True)
class _Recorded:
    """Digests of m and r of a committed version, which may be in the making; None: they have to be computed again.

    `urgent`: the next commit waits for them.
    """

    done: Event = field(default_factory=Event)
    urgent: Event = field(default_factory=Event)
    digests: StateDigests | None = None


@dataclass(kw_only=True)
class Aggregation:
    """Computes commits; remembers the digests of m and r until they are recorded.

    Attributes:
        num_threads: of a commit; the bits are the same for any number.
        in_background: digest m and r of large fragments on a thread of their own, so that nobody waits for them.
        on_recorded: called on that thread when `record` has something new to say.
        courtesy: what those digests give way to.
    """

    blobs: BlobStore
    states: StateStore
    num_threads: int = 1
    in_background: bool = False
    on_recorded: Callable[[], None] = lambda: None
    courtesy: Courtesy = field(default_factory=Courtesy)
    _recorded: dict[tuple[str, int], _Recorded] = field(default_factory=dict)
    _made_here: set[tuple[str, int, int]] = field(default_factory=set)
    _done_with: list[str] = field(default_factory=list)
    _background: Background = field(default_factory=lambda: Background("digest-state"))

    def aggregate(self, run: Run, manifest: Manifest, number: int) -> RoundAggregated:
        """The commit of a sealed round; its blob and new state version are durable when this returns.

        Raises:
            CorruptObjectError, ObjectNotFoundError: evidence is damaged; nothing was committed.
            NumericsMismatchError: this machine computes other bits than a run's.
        """
        found = run.rounds[number]
        later = self.in_background and manifest.fragments[found.fragment].num_elements > SMALL_ELEMENTS
        result = self._commit(run, manifest, number, digest_state=not later)
        self._done_with += _blobs_done_with(run, found.fragment, number)
        recorded = self._recorded[run.id, number] = _Recorded()
        if later:
            self._background.submit(partial(self._digest, recorded, (run.id, found.fragment, number + 1)))
        else:
            recorded.digests = result.state_digests
            recorded.done.set()
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

    def record(self, run: Run, manifest: Manifest, number: int, fragment: int) -> StateDigested | None:
        """Digests of m and r of a committed version, computed again where a restart has forgotten them.

        None: they are being computed; `on_recorded` says when to ask again.
        """
        recorded = self._recorded.get((run.id, number))
        if recorded is not None and not recorded.done.is_set():
            if _is_awaited(run, fragment):
                recorded.urgent.set()
            if not recorded.done.wait(_GRACE_SECONDS):
                return None
        digests = recorded.digests if recorded is not None else None
        if digests is None:
            digests = self._commit(run, manifest, number, digest_state=True).state_digests
        self._recorded.pop((run.id, number), None)
        return StateDigested(
            run=run.id,
            round=number,
            fragment=fragment,
            momentum_digest=digests.momentum,
            residual_digest=digests.residual,
        )

    def ensure(self, run: Run, manifest: Manifest, fragment: int, version: int) -> int:
        """Makes a version in force present and intact; returns how many commits had to be computed again.

        Raises:
            CorruptObjectError, ObjectNotFoundError: a blob that the ledger names is damaged or missing.
            DigestMismatchError: computing again gives other bits than the ledger records.
        """
        zero = first_digests(manifest, fragment)
        num_elements = manifest.fragments[fragment].num_elements
        if not make_intact(self.states, run.id, fragment, 0, num_elements, zero, self.num_threads):
            initial_state(self.states, run.id, manifest, open_theta(self.blobs, manifest))
        chain = [record for record in commit_chain(run, fragment) if record.version <= version]
        if not chain:
            return 0
        return rebuild(self.states, self.blobs, run.id, manifest, fragment, chain, self.num_threads)

    def prune(self, run: Run) -> None:
        """Drops versions that are neither the first, current, the one before nor under way; the ledger rebuilds any.

        Evidence stays; what was aggregated leaves the page cache.
        """
        while self._done_with:
            self.blobs.forget_pages(self._done_with.pop())
        for fragment, chain in enumerate(run.versions):
            current = {version.number for version in chain[-2:]} | {number + 1 for number in run.open_rounds}
            self.states.prune(run.id, fragment, current=current, in_force=[version.number for version in chain])
            self._made_here -= {
                key for key in self._made_here if key[:2] == (run.id, fragment) and key[2] not in current
            }

    def close(self) -> None:
        """Ends what is under way in the background."""
        self._background.close()

    def _digest(self, recorded: _Recorded, version: tuple[str, int, int], stopping: Event) -> None:
        """Digests of a new version, which goes to the disk then.

        What goes wrong here is met, and told, by whoever computes the commit again.
        """
        self.courtesy.turn(stopping, recorded.urgent).wait()
        try:
            recorded.digests = state_digests(self.states, *version, with_theta=False)  # that is in the commit
        except FederationError as error:
            LOG.warning("run %s, fragment %d: version %d: %s", *version, error.diagnostics())
        finally:
            recorded.done.set()
            self.on_recorded()
        self.states.begin_sync(*version)

    def _commit(self, run: Run, manifest: Manifest, number: int, *, digest_state: bool) -> CommitResult:
        require_golden_vectors()
        try:
            return self._commit_once(run, manifest, number, digest_state)
        except (CorruptObjectError, ObjectNotFoundError):  # the cache, or evidence: then this raises again
            found = run.rounds[number]
            self.ensure(run, manifest, found.fragment, found.base_version)
            return self._commit_once(run, manifest, number, digest_state)

    def _commit_once(self, run: Run, manifest: Manifest, number: int, digest_state: bool) -> CommitResult:
        found = run.rounds[number]
        base = (run.id, found.fragment, found.base_version)
        result = commit_round(
            self.blobs,
            self.states,
            run.id,
            manifest,
            number,
            found.fragment,
            found.base_version,
            found.sealed,
            # What this process wrote it need not read again to know it.
            expected=None if base in self._made_here else _base_digests(run, manifest, *base[1:]),
            durable=(number + 1) % manifest.snapshot_every_rounds == 0,
            digest_state=digest_state,
            num_threads=self.num_threads,
        )
        self._made_here.add((run.id, found.fragment, number + 1))
        return result


def _is_awaited(run: Run, fragment: int) -> bool:
    """Whether a round of the fragment is sealed: its commit comes after the record of the one before."""
    rounds = (run.rounds[number] for number in run.open_rounds)
    return any(found.fragment == fragment and found.state is RoundState.SEALED for found in rounds)


def _blobs_done_with(run: Run, fragment: int, number: int) -> list[str]:
    """A committed round's payloads, and the blob of the fragment's commit before it, which most sites have by now."""
    before = [version.blob_digest for version in run.versions[fragment][-1:] if version.blob_digest]
    return [update.payload_digest for update in run.rounds[number].sealed] + before


def _base_digests(run: Run, manifest: Manifest, fragment: int, version: int) -> StateDigests:
    if version == 0:
        return first_digests(manifest, fragment)
    found = next(v for v in run.versions[fragment] if v.number == version)
    return StateDigests(theta=found.theta_digest, momentum=found.momentum_digest, residual=found.residual_digest)
