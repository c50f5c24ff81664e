# SPDX-License-Identifier: Apache-2.0
"""Sends each site the ledger itself: new leaves, a signed checkpoint, cosignatures, and the blobs that commits name.

A site is told nothing else. What was sent and lost with a crash of this process is sent again: a site ignores leaves
that it has.

Each tail is read, checked, cosigned and answered by every site. So leaves that no site acts upon wait a moment for
others: accepted updates and the seal for the round's commit, mostly.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from federation import leaves as lv
from federation.blobs.store import BlobStore
from federation.durable import failpoint
from federation.ledger.log import Ledger
from federation.mailbox.mailbox import Mailbox
from federation.messages import Snapshot, SnapshotWanted, SuggestedStart
from federation.roster import TrustedRosters
from federation.rounds import Federation, Run
from federation.witnesses import needed_leaf, witnessed_by

LINGER_SECONDS: Final = 1.0
"""How long leaves may wait that no site acts upon."""

_MAX_LINGERING: Final = 64


@dataclass(kw_only=True)
class Sent:
    """What one site has been sent.

    Attributes:
        size: leaves.
        roster_version: newest roster document.
        covered: per run the ledger index up to which it was shown enough cosignatures.
        offered: per blob digest the sequence of the newest message that names it.
        snapshots: per run and fragment the sequence of the newest message with a snapshot of it.
        sequence: of the newest tail.
        lingering_since: when it was first found that only leaves are new that may wait; None if there are none.
    """

    size: int
    roster_version: int
    sequence: int = 0
    covered: dict[str, int] = field(default_factory=dict)
    offered: dict[str, int] = field(default_factory=dict)
    snapshots: dict[tuple[str, int], int] = field(default_factory=dict)
    lingering_since: float | None = None


@dataclass(kw_only=True)
class Tails:
    """Publishes the ledger to the sites' mailboxes."""

    ledger: Ledger
    blobs: BlobStore
    _sent: dict[str, Sent] = field(default_factory=dict)

    def reported(self, site: str, ledger_size: int, received_through: int = 0, roster_version: int = 0) -> None:
        """A site says what it has: tails begin there, once more if all that was sent did not help it.

        The latter is a site whose ledger copy was restored from an older one, or that was away for several rosters.

        Args:
            received_through: the highest number of ours that it had acted upon when it said so.
            roster_version: the newest roster that it knows, 0 if it did not say.
        """
        sent = self._sent.setdefault(site, Sent(size=min(ledger_size, self.ledger.size), roster_version=0))
        if received_through >= sent.sequence:
            sent.size = min(sent.size, ledger_size)
            sent.roster_version = roster_version or sent.roster_version

    def forget(self, site: str) -> None:
        """A site that begins anew: it has nothing that it was sent."""
        self._sent.pop(site, None)

    def under_way(self, site: str, received_through: int) -> frozenset[str]:
        """Blobs offered to a site by messages that it has not received yet."""
        sent = self._sent.get(site)
        if sent is None:
            return frozenset()
        sent.offered = {d: sequence for d, sequence in sent.offered.items() if sequence > received_through}
        return frozenset(sent.offered)

    def not_under_way(
        self, site: str, wanted: Iterable[SnapshotWanted], received_through: int
    ) -> tuple[SnapshotWanted, ...]:
        """Of the snapshots that a site asks for, those of fragments of which it is not being sent one already."""
        sent = self._sent.get(site)
        snapshots = sent.snapshots if sent is not None else {}
        return tuple(w for w in wanted if snapshots.get((w.run, w.fragment), 0) <= received_through)

    def publish(
        self,
        site: str,
        mailbox: Mailbox,
        state: Federation,
        witnessed: Mapping[str, int],
        rosters: TrustedRosters,
        wanted: tuple[str, ...] = (),
        snapshots: tuple[Snapshot, ...] = (),
        suggested: tuple[SuggestedStart, ...] = (),
        *,
        now: float,
    ) -> bool:
        """Posts one tail if the site lacks leaves, cosignatures it waits for, a roster, advice or what it asked for."""
        sent = self._sent.setdefault(site, Sent(size=0, roster_version=0))
        version = _next_version(sent.roster_version, rosters)
        covered = _covered(state, site, witnessed)
        stale = any(index > sent.covered.get(run, -1) for run, index in covered.items())
        has_all = not self._has_news(sent, now) and version <= sent.roster_version
        if has_all and not stale and not (wanted or snapshots or suggested):
            return False
        failpoint("coordinator.before-tail")
        tail = self.ledger.tail(sent.size, roster=rosters.document(version) if version > sent.roster_version else b"")
        tail = replace(tail, snapshots=snapshots, suggested_starts=suggested)
        stop = sent.size + len(tail.leaves)
        whole = [snapshot.blob_digest for snapshot in snapshots if snapshot.blob_digest]
        unread = len(self.under_way(site, mailbox.peer_received_through))
        blobs = dict.fromkeys((*self._blobs_of(site, state, sent.size, stop, unread), *wanted, *whole))
        checkpoint = (stop, self.ledger.root(stop))
        sequence = mailbox.post(tail, blobs=tuple(blobs), roster_version=version, checkpoint=checkpoint)
        sent.offered.update(dict.fromkeys(blobs, sequence))
        sent.snapshots.update({(s.run, s.fragment): sequence for s in snapshots})
        sent.size, sent.roster_version, sent.sequence, sent.lingering_since = stop, version, sequence, None
        sent.covered.update(covered)
        return True

    def _has_news(self, sent: Sent, now: float) -> bool:
        """Whether the site lacks leaves that it should have by now."""
        if not 0 < self.ledger.size - sent.size <= _MAX_LINGERING:
            return self.ledger.size > sent.size
        if not all(_may_wait(leaf.body) for leaf in self.ledger.leaves(sent.size, self.ledger.size)):
            return True
        if sent.lingering_since is None:
            sent.lingering_since = now
        return not 0 <= now - sent.lingering_since < LINGER_SECONDS  # a clock may be set back

    def _blobs_of(self, site: str, state: Federation, start: int, stop: int, unread: int) -> list[str]:
        """Blobs that go along unasked: manifests, and commit blobs of the newest rounds, to the run's members.

        Who has not received that many yet is away or slow: once back it asks for what it needs, or for a snapshot.
        """
        found: list[str] = []
        for leaf in self.ledger.leaves(start, stop):
            body = leaf.body
            if not isinstance(body, lv.RoundCommittedV1 | lv.RunCreatedV1):
                continue
            run = state.runs[body.run]
            if not run.is_member(site):
                continue
            newest = 2 * run.plan.num_fragments
            if isinstance(body, lv.RunCreatedV1):
                found.append(body.manifest_digest)
            elif body.round >= run.next_round - newest and unread < newest:
                found.append(body.blob_digest)
        return [digest for digest in found if self.blobs.has(digest)]


def _next_version(known: int, rosters: TrustedRosters) -> int:
    """The roster after the one that a site knows, since sites take no gaps; the newest if nothing is known of it."""
    return known + 1 if known and known + 1 in rosters.versions else rosters.current.version


def allowed_blobs(state: Federation, site: str, theta_blobs: Mapping[str, str]) -> frozenset[str]:
    """Digests that a site may ask for: manifests, theta_0 and commit blobs of its runs; never another site's update.

    Args:
        state: the ledger's state.
        site: who asks.
        theta_blobs: per run the blob of theta_0.
    """
    allowed: set[str] = set()
    for run in state.runs.values():
        if run.is_member(site):
            allowed.add(run.manifest_digest)
            allowed.update(v.blob_digest for chain in run.versions for v in chain if v.blob_digest)
            if run.id in theta_blobs:
                allowed.add(theta_blobs[run.id])
    return frozenset(allowed)


def _may_wait(body: lv.Body) -> bool:
    """Whether it changes nothing that a site does next."""
    if isinstance(body, lv.VerdictV1):
        return body.outcome is lv.Outcome.ADMITTED
    return isinstance(body, lv.RoundSealedV1 | lv.StateRecordedV1)


def _covered(state: Federation, site: str, witnessed: Mapping[str, int]) -> dict[str, int]:
    """Per run of the site: the newest leaf needed by the witness rule, if enough members cosigned it."""
    covered: dict[str, int] = {}
    for run in state.runs.values():
        if run.is_member(site) and run.approved_leaf >= 0:
            index = _needed(run)
            if len(witnessed_by(run, index, witnessed)) >= run.plan.witness_quorum:
                covered[run.id] = index
    return covered


def _needed(run: Run) -> int:
    return needed_leaf(run, run.num_commits())
