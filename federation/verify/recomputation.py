# SPDX-License-Identifier: Apache-2.0
"""Every committed round computed again from the signed updates' payloads, to the same bits, in a scratch store.

What a round's base is known by: *full* (theta, m, r computed or taken from a stored version that has the ledger's
digests), *theta only* (a payload is missing, the commit blob still gives theta), or nothing. Only from a full base can
a round be recomputed; the others are gaps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from federation import leaves as lv
from federation.aggregate import CommitResult, commit_round, first_digests, initial_state, is_intact, replay_commit
from federation.chunk_pool import num_threads_here
from federation.errors import ConfigError, DigestMismatchError, DiskFullError, FederationError
from federation.golden import require_golden_vectors
from federation.manifest import NUMERICS_VERSION, Manifest
from federation.rounds import Round, Run
from federation.state.api import StateDigests, StateStore
from federation.tensor_file import open_theta
from federation.verify.evidence import Evidence
from federation.verify.report import Check, Findings, Place

Key = tuple[str, int, int]
"""Run, fragment, version."""


class Known(Enum):
    """How much of a version the scratch store holds."""

    FULL = "full"
    THETA = "theta only"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Uses:
    """What the first pass over the leaves has learned.

    Attributes:
        last_use: per version the index of the last commit leaf that builds on it.
        recorded: per (run, round) the digests of m and r that a `state recorded` leaf gives.
    """

    last_use: Mapping[Key, int] = field(default_factory=dict)
    recorded: Mapping[tuple[str, int], lv.StateRecordedV1] = field(default_factory=dict)


@dataclass(kw_only=True)
class Recomputation:
    """Versions in a scratch store, and what is known of each.

    Attributes:
        stored: the directory's own versions; only read.
        digests: of each version that was recomputed, or as the ledger has them where it could not be.
    """

    findings: Findings
    evidence: Evidence
    scratch: StateStore
    stored: StateStore
    uses: Uses
    known: dict[Key, Known] = field(default_factory=dict)
    digests: dict[Key, StateDigests] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    num_recomputed: int = 0

    def begin(self, place: Place, manifest: Manifest) -> None:
        """Version 0 of every fragment, from theta_0's blob."""
        self.manifests[manifest.run] = manifest
        known = Known.NOTHING
        if self.evidence.require(manifest.theta_blob, place, "theta_0"):
            try:
                initial_state(self.scratch, manifest.run, manifest, open_theta(self.evidence, manifest))
                known = Known.FULL
                self.findings.agree(Check.COMMITS, len(manifest.fragments))
            except (ConfigError, DigestMismatchError) as error:
                self.findings.differ(Check.COMMITS, place, "theta_0", "the parameters of the manifest", error)
        for fragment in range(len(manifest.fragments)):
            self.known[(manifest.run, fragment, 0)] = known
            self.digests[(manifest.run, fragment, 0)] = first_digests(manifest, fragment)

    def commit(self, place: Place, run: Run, found: Round, body: lv.RoundCommittedV1) -> None:
        """Computes a commit again and compares every figure of its leaf; then forgets versions no longer needed."""
        manifest, before = self.manifests.get(run.id), self.findings.failed[Check.COMMITS]
        self._check_frame(place, found, body)
        blob_here = self.evidence.want(body.blob_digest, place, "commit blob")
        result = self._recompute(place, run, found, manifest) if manifest else None
        key = (run.id, found.fragment, found.number + 1)
        if result is None:
            self._fall_back(place, run, found, body, blob_here)
        else:
            self._compare(place, body, result)
            self.known[key], self.digests[key] = Known.FULL, result.state_digests
            self.num_recomputed += 1
            if self.findings.failed[Check.COMMITS] == before:
                self.findings.agree(Check.COMMITS)
        self._forget(place.leaf, run.id, found)

    def record(self, place: Place, body: lv.StateRecordedV1) -> None:
        """Compares digests of m and r with those that were computed."""
        key = (body.run, body.fragment, body.round + 1)
        if self.known_before(key) is not Known.FULL:
            self.findings.skip(Check.COMMITS, place, "momentum and residual cannot be recomputed")
            return
        expected, what = self.digests[key], f"of fragment {body.fragment}, version {body.round + 1}"
        same = self.findings.compare(
            Check.COMMITS, place, f"momentum {what}", expected.momentum, body.momentum_digest
        ) and self.findings.compare(Check.COMMITS, place, f"residual {what}", expected.residual, body.residual_digest)
        if same:
            self.findings.agree(Check.COMMITS)

    def known_before(self, key: Key) -> Known:
        """What was known of a version when it was made, whether the scratch store still holds it or not."""
        return self.known.get(key, Known.NOTHING)

    def _check_frame(self, place: Place, found: Round, body: lv.RoundCommittedV1) -> None:
        expected = {"fragment": found.fragment, "version": found.number + 1, "numerics_version": NUMERICS_VERSION}
        for name, value in expected.items():
            self.findings.compare(Check.COMMITS, place, name, value, getattr(body, name))

    def _recompute(self, place: Place, run: Run, found: Round, manifest: Manifest) -> CommitResult | None:
        base = (run.id, found.fragment, found.base_version)
        payloads = [
            self.evidence.want(update.payload_digest, place, f"payload of {update.site}") for update in found.sealed
        ]
        if self.known_before(base) is not Known.FULL or not all(payloads):
            return None
        number, fragment = found.number, found.fragment
        require_golden_vectors()  # a machine that computes other bits must accuse nobody
        try:
            return commit_round(
                self.evidence,
                self.scratch,
                run.id,
                manifest,
                number,
                fragment,
                found.base_version,
                found.sealed,
                expected=self.digests[base],
                durable=False,
                num_threads=num_threads_here(),
            )
        except DiskFullError:
            raise
        except (FederationError, ValueError) as error:
            self.findings.differ(Check.COMMITS, place, "sealed updates", "a commit that can be computed", error)
            return None

    def _compare(self, place: Place, body: lv.RoundCommittedV1, result: CommitResult) -> None:
        for name in ("theta_digest", "blob_digest", "blob_bytes", "aggregate_norm"):
            expected, found = getattr(result, name), getattr(body, name)
            self.findings.compare(Check.COMMITS, place, f"{name} of fragment {body.fragment}", expected, found)
        claimed = {c.site: c for c in body.contributions}
        sites = tuple(c.site for c in result.contributions)
        self.findings.compare(Check.COMMITS, place, "contributions", sites, tuple(c.site for c in body.contributions))
        for computed in result.contributions:
            found = claimed.get(computed.site, computed)
            for name in ("norm", "cosine"):
                what = f"{name} of the contribution of {computed.site}"
                self.findings.compare(Check.COMMITS, place, what, getattr(computed, name), getattr(found, name))

    def _fall_back(self, place: Place, run: Run, found: Round, body: lv.RoundCommittedV1, blob_here: bool) -> None:
        """The round itself stays a gap; what follows it may still be recomputed, or theta at least be checked."""
        key = (run.id, found.fragment, found.number + 1)
        self.digests[key] = self._claimed(body)
        self.findings.skip(Check.COMMITS, place, "the round cannot be recomputed from its signed updates")
        if self._adopt(key, self.digests[key]):
            self.known[key] = Known.FULL
        elif blob_here and self._replay(place, found, body):
            self.known[key] = Known.THETA
        else:
            self.known[key] = Known.NOTHING

    def _claimed(self, body: lv.RoundCommittedV1) -> StateDigests:
        recorded = self.uses.recorded.get((body.run, body.round))
        if recorded is None:
            return StateDigests(theta=body.theta_digest)
        return StateDigests(
            theta=body.theta_digest, momentum=recorded.momentum_digest, residual=recorded.residual_digest
        )

    def _adopt(self, key: Key, digests: StateDigests) -> bool:
        """Takes over a stored version that has all three digests which the ledger records."""
        manifest = self.manifests.get(key[0])
        if manifest is None or not (digests.momentum and digests.residual):
            return False
        num_elements = manifest.fragments[key[1]].num_elements
        if not is_intact(self.stored, *key, num_elements, digests):
            return False
        reader = self.stored.open(*key)
        if reader is None:
            return False
        with self.scratch.create(*key, num_elements) as writer:
            for index in range(reader.grid.num_chunks):
                writer.write_chunk(index, *reader.read_chunk(index))
            writer.commit(durable=False)
        return is_intact(self.scratch, *key, num_elements, digests)

    def _replay(self, place: Place, found: Round, body: lv.RoundCommittedV1) -> bool:
        """theta from base and commit blob alone."""
        manifest = self.manifests.get(body.run)
        if manifest is None or self.known_before((body.run, found.fragment, found.base_version)) is Known.NOTHING:
            return False
        try:
            replay_commit(
                self.scratch,
                self.evidence,
                body.run,
                manifest,
                found.fragment,
                found.base_version,
                found.number + 1,
                blob_digest=body.blob_digest,
                theta_digest=body.theta_digest,
            )
        except DiskFullError:
            raise
        except FederationError as error:
            self.findings.differ(Check.COMMITS, place, "commit blob", "one that leads to the ledger's theta", error)
            return False
        return True

    def _forget(self, leaf: int, run: str, found: Round) -> None:
        """Drops the base and the new version unless a later commit builds on them."""
        for version in (found.base_version, found.number + 1):
            if self.uses.last_use.get((run, found.fragment, version), -1) <= leaf:
                self.scratch.delete(run, found.fragment, version)
