# SPDX-License-Identifier: Apache-2.0
"""A run at one site, built step by step: ledger leaves on one side, what the agent sees on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from federation import leaves as lv
from federation.leaves import Reason
from federation.rounds import Federation, apply
from federation.testing.manifests import plan_of
from site_agent.agent_state import AgentState, fold
from site_agent.decider import decide
from site_agent.entries import Entry
from site_agent.instructions import Instruction, ReportStatus
from site_agent.observations import (
    AgentSettings,
    AllocationSeen,
    Answer,
    Execution,
    HumanAnswer,
    JobPhase,
    ManifestSeen,
    Observations,
    OutcomeSeen,
    UpdateSeen,
)
from site_agent.pending import pending

RUN = "run-1"
SITE = "alpha"
MANIFEST = "aa" * 32
THETA = "bb" * 32
SECOND = 1_000_000


def digest_of(*words: object) -> str:
    """Some digest, the same for the same words."""
    return sha256(" ".join(map(str, words)).encode()).hexdigest()


class Situation:
    """Everything that the agent's decider can see, changeable piece by piece; `settle` journals what it decides."""

    def __init__(
        self,
        *,
        sites: Mapping[str, int] | None = None,
        run: str = RUN,
        manifest_digest: str = MANIFEST,
        **plan: Any,
    ) -> None:
        self.run, self.manifest_digest = run, manifest_digest
        self.settings = AgentSettings(site=SITE, backoff_seconds=10.0, max_failures=3, stop_grace_seconds=60.0)
        self.plan = replace(plan_of(sites or {SITE: 4, "beta": 4}, theta_digests=(), **_known(plan)), **_other(plan))
        self.federation = Federation()
        self.state = AgentState()
        self.now_us = 1_000_000 * SECOND
        self.seen = Observations(
            manifests={run: ManifestSeen(run=run, digest=manifest_digest, answer=Answer.ACCEPT, **_MANIFEST)},
            blobs=frozenset({manifest_digest, THETA}),
            heard_at_us=self.now_us,
        )
        self.leaf(
            lv.RunCreatedV1(run=run, manifest_digest=manifest_digest, plan=self.plan, operator="olga", command="c1")
        )

    # --- ledger -------------------------------------------------------------------------------------------------------

    def leaf(self, *bodies: lv.Body) -> "Situation":
        """Appends leaves."""
        for body in bodies:
            self.federation = apply(self.federation, lv.Leaf(at_us=self.now_us, body=body))
        return self

    def started(self) -> "Situation":
        """The run is approved, running, and everything so far is witnessed by all."""
        self.leaf(
            lv.RunApprovedV1(run=self.run, operator="olga", command="c2"),
            lv.RunStartedV1(run=self.run, operator="olga", command="c3"),
        )
        return self.witnessed()

    def opened(self, number: int, *, allocation: str = "a1", sites: Sequence[str] = (SITE, "beta")) -> "Situation":
        """Round `number` opens against the current base."""
        run = self.federation.runs[self.run]
        fragment = number % self.plan.num_fragments
        base = run.versions[fragment][-1]
        steps = self.plan.num_inner_steps // self.plan.num_fragments
        invitations = tuple(lv.Invitation(site=s, allocation=allocation, num_steps=steps) for s in sites)
        return self.leaf(
            lv.RoundOpenedV1(
                run=self.run,
                round=number,
                fragment=fragment,
                base_version=base.number,
                base_digest=base.theta_digest,
                lr_position=number * steps,
                invitations=invitations,
                sentence="",
            )
        )

    def committed(self, number: int, *, listed: str = "") -> "Situation":
        """Round `number` is sealed (with our payload `listed`, if given), committed and its state recorded."""
        fragment = number % self.plan.num_fragments
        mine = lv.SealedUpdate(site=SITE, weight=1.0, update_digest=digest_of("u"), payload_digest=listed)
        return self.leaf(
            lv.RoundSealedV1(run=self.run, round=number, updates=(mine,) if listed else (), sentence=""),
            lv.RoundCommittedV1(
                run=self.run,
                round=number,
                fragment=fragment,
                version=number + 1,
                theta_digest=digest_of("theta", number),
                blob_digest=digest_of("blob", number),
                blob_bytes=1,
                aggregate_norm=1.0,
                contributions=(),
                numerics_version=1,
            ),
            lv.StateRecordedV1(
                run=self.run, round=number, fragment=fragment, momentum_digest=MANIFEST, residual_digest=MANIFEST
            ),
        )

    def abandoned(self, number: int) -> "Situation":
        """Round `number` ends without a commit."""
        return self.leaf(lv.RoundAbandonedV1(run=self.run, round=number, reason=Reason.NO_QUORUM, sentence=""))

    # --- observations -------------------------------------------------------------------------------------------------

    def see(self, **changes: Any) -> "Situation":
        """Changes the observations."""
        self.seen = replace(self.seen, **changes)
        return self

    def policy(self, answer: Answer, reason: Reason = Reason.POLICY, shortage: str = "") -> "Situation":
        """Changes what the policy says."""
        manifest = replace(self.seen.manifests[self.run], answer=answer, reason=reason, shortage=shortage)
        return self.see(manifests={self.run: manifest})

    def human(self, **answer: Any) -> "Situation":
        """The operator says something."""
        return self.see(humans={self.run: HumanAnswer(run=self.run, **answer)})

    def witnessed(self, size: int | None = None, sites: Sequence[str] = (SITE, "beta")) -> "Situation":
        """These sites have cosigned so many leaves (default: all)."""
        covered = self.federation.size if size is None else size
        return self.see(witnessed=dict.fromkeys(sites, covered))

    def job(self, number: int = 1, **changes: Any) -> "Situation":
        """The job of allocation `number` is ready, with changes."""
        default = {"execution": Execution.RUNNING, "phase": JobPhase.READY, "attempted": True}
        job = AllocationSeen(run=self.run, number=number, **{**default, **changes})
        return self.see(allocations={self.run: job})

    def no_job(self) -> "Situation":
        """Nothing is live."""
        return self.see(allocations={})

    def update(self, number: int, *, allocation: int = 1, **changes: Any) -> "Situation":
        """The job left the update of round `number`, as ordered but for the changes."""
        found = self.federation.runs[self.run].rounds[number]
        update = UpdateSeen(
            run=self.run,
            allocation=allocation,
            round=number,
            fragment=found.fragment,
            base_digest=found.base_digest,
            codec="fp32",
            payload_digest=digest_of("payload", number),
            payload_bytes=10,
            weight_tokens=64,
            new_tokens=64,
            num_steps=self.plan.num_inner_steps // self.plan.num_fragments,
        )
        return self.see(updates=(*self.seen.updates, replace(update, **changes)))

    def outcomes(self, **kinds: str) -> "Situation":
        """Outcomes that were written: r0="committed", r1="abandoned"."""
        written = {}
        for name, kind in kinds.items():
            theta = digest_of("theta", int(name[1:])) if kind == "committed" else ""
            written[self.run, int(name[1:])] = OutcomeSeen(kind=kind, theta_digest=theta)
        return self.see(outcomes=written)

    def blobs(self, *rounds: int) -> "Situation":
        """The commit blobs of these rounds are durable here."""
        return self.see(blobs=self.seen.blobs | {digest_of("blob", number) for number in rounds})

    # --- deciding -----------------------------------------------------------------------------------------------------

    def later(self, seconds: float) -> "Situation":
        """Time passes; the coordinator is heard all the while."""
        self.now_us += int(seconds * SECOND)
        return self.see(heard_at_us=self.now_us)

    def decide(self) -> list[Entry]:
        """What the decider says now."""
        return decide(self.settings, self.state, self.federation, self.seen, self.now_us)

    def journal(self, *entries: Entry) -> "Situation":
        """Adds entries to the journal."""
        self.state = fold(entries, self.state)
        return self

    def settle(self) -> list[Entry]:
        """Decides and journals until nothing is open; returns all of it."""
        found: list[Entry] = []
        while entries := self.decide():
            found += entries
            self.journal(*entries)
            assert len(found) < 100, f"decides without end: {entries}"
        return found

    def pending(self) -> list[Instruction]:
        """Instructions, without the status report."""
        found = pending(self.settings, self.state, self.federation, self.seen, self.now_us)
        return [instruction for instruction in found if not isinstance(instruction, ReportStatus)]

    def report(self) -> ReportStatus:
        """The status report."""
        last = pending(self.settings, self.state, self.federation, self.seen, self.now_us)[-1]
        assert isinstance(last, ReportStatus)
        return last


_MANIFEST: dict[str, Any] = {"theta_blob": THETA, "codec": "fp32", "trainer": "reference", "consortium": "test"}
_PLAN_ARGUMENTS = ("num_fragments", "tau", "num_rounds", "weighting", "first_window_steps")


def _known(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plan.items() if name in _PLAN_ARGUMENTS}


def _other(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plan.items() if name not in _PLAN_ARGUMENTS}
