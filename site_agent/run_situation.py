# SPDX-License-Identifier: Apache-2.0
"""One run as a pass of the agent sees it: what the decisions about answers, allocations and rounds share. Pure."""

from federation.rounds import Federation, Round, Run
from site_agent import derived
from site_agent.agent_state import AgentState, Allocation
from site_agent.entries import AllocationEnded
from site_agent.failures import Retry, retry_of
from site_agent.observations import AgentSettings, ManifestSeen, Observations


class RunSituation:
    """One run, as this pass sees it."""

    def __init__(
        self,
        settings: AgentSettings,
        state: AgentState,
        federation: Federation,
        seen: Observations,
        now_us: int,
        run: Run,
    ) -> None:
        self.settings, self.state, self.seen, self.now_us, self.run = settings, state, seen, now_us, run
        self.site = settings.site
        self.excluded = settings.site in federation.excluded
        self.revoked = settings.site in federation.revoked
        self.manifest = _known_manifest(run, seen)
        self.human = seen.humans.get(run.id)
        self.live = state.live_allocation(run.id)
        self.job = derived.job_of(run.id, state, seen)
        self.accepted = derived.accepted(run, state) and not self.refused
        self.silent = derived.silent(settings, seen, now_us)
        self.failures = derived.failures_in_a_row(run.id, state, self.human.retry_at_us if self.human else 0)

    @property
    def refused(self) -> bool:
        """Whether the site's operator said no to this run, whatever else was said."""
        return self.human is not None and self.human.accepted is False

    def may_try_again(self, end: AllocationEnded) -> bool:
        """Whether another job can end differently: by itself, or since the site's operator asked for one."""
        asked = self.human is not None and self.human.retry_at_us > end.at_us
        retry = retry_of(end.reason) if end.failed else Retry.BACKOFF
        return retry is Retry.BACKOFF or (asked and retry is Retry.WAIT_FOR_HUMAN)

    def newest_issued(self, live: Allocation) -> int:
        """The highest round that was ordered of an allocation, -1 if none was."""
        mine = (r for (run, r), number in self.state.issued.items() if run == self.run.id and number == live.number)
        return max(mine, default=-1)

    def settled(self, found: Round) -> bool:
        """Whether this site has said its word about the round."""
        key = (self.run.id, found.number, found.fragment, found.base_digest)
        return key in self.state.signed or (self.run.id, found.number) in self.state.refused

    def ordered_of(self, allocation: Allocation, found: Round) -> bool:
        """Whether this allocation was the last that was given the round."""
        return self.state.issued.get((self.run.id, found.number)) == allocation.number


def _known_manifest(run: Run, seen: Observations) -> ManifestSeen | None:
    """What is known of exactly the manifest that the ledger names."""
    manifest = seen.manifests.get(run.id)
    return manifest if manifest is not None and manifest.digest == run.manifest_digest else None
