# SPDX-License-Identifier: Apache-2.0
"""Orders and outcomes for one job, from the oracle's history: the job must reproduce that history to the bit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from federation.chunks import fragment_digest
from federation.durable.api import FileSystem
from federation.manifest import Manifest
from federation.merkle import blob_digest
from federation.reference import RoundPlan, RoundResult
from site_agent.inner_loop.progress import site_schedule
from site_agent.jobs import (
    AllocationPaths,
    OutcomeFile,
    OutcomeKind,
    RoundOrder,
    RunPaths,
    UpdateFile,
    numbered,
    read_record,
    write_record,
)


class ScriptedAgent:
    """Plays agent and coordinator towards one job of one site.

    Args:
        history: what the oracle computed for every round.
        plans: with which exceptions.
        blob_dir: where commit blobs are written.
    """

    def __init__(
        self,
        manifest: Manifest,
        site: str,
        history: Sequence[RoundResult],
        plans: Mapping[int, RoundPlan],
        blob_dir: Path,
    ) -> None:
        self._manifest, self._site, self._history, self._plans = manifest, site, history, plans
        self._blob_dir = blob_dir

    def plan(self, number: int) -> RoundPlan:
        """What is special about a round."""
        return self._plans.get(number, RoundPlan())

    def takes_part(self, number: int) -> bool:
        """Whether the site is invited to a round."""
        return self._site not in self.plan(number).absent

    def order(self, number: int) -> RoundOrder:
        """The order of a round."""
        schedule = site_schedule(self._manifest, self._site)
        fragment = schedule.fragment_of(number)
        version, digest = 0, self._manifest.plan.theta_digests[fragment]
        for j in range(fragment, number, schedule.num_fragments):
            if self._history[j].blob:
                version, digest = j + 1, fragment_digest(self._history[j].theta)
        return RoundOrder(
            round=number,
            fragment=fragment,
            base_version=version,
            base_digest=digest,
            lr_position=self._lr_position(number),
            num_steps=schedule.steps_of_window(number),
        )

    def outcome(self, number: int) -> OutcomeFile:
        """How a round ended; writes its blob."""
        result = self._history[number]
        if not result.blob:
            return OutcomeFile(round=number, kind=OutcomeKind.ABANDONED, fragment=result.fragment)
        path = self._blob_dir / f"{number}.blob"
        path.write_bytes(result.blob)
        listed = self._site in result.weights
        return OutcomeFile(
            round=number,
            kind=OutcomeKind.COMMITTED,
            fragment=result.fragment,
            version=number + 1,
            theta_digest=fragment_digest(result.theta),
            blob_path=str(path),
            listed_payload_digest=blob_digest(result.payloads[self._site]) if listed else "",
        )

    def write_orders(self, allocation: FileSystem, run: FileSystem) -> None:
        """Orders of every round that has not ended yet, ascending."""
        ended = set(numbered(run, RunPaths().outcomes))
        for number in range(len(self._history)):
            if self.takes_part(number) and number not in ended:
                write_record(allocation, AllocationPaths().round_order(number), self.order(number))

    def write_outcomes(self, allocation: FileSystem, run: FileSystem) -> None:
        """Outcomes of the rounds that this site took no part in, and of those that it has published."""
        for number in range(len(self._history)):
            published = read_record(allocation, AllocationPaths().update(number), UpdateFile)
            is_over = published is not None or not self.takes_part(number)
            if is_over and not run.exists(RunPaths().outcome(number)):
                write_record(run, RunPaths().outcome(number), self.outcome(number))

    def _lr_position(self, number: int) -> int:
        plan, void = self._manifest.plan, self.plan(number).num_void_below
        if void is None:
            ended = self._history[: max(0, number - plan.num_fragments + 1)]
            void = sum(1 for result in ended if not result.blob)
        return (number - void) * (plan.num_inner_steps // plan.num_fragments)
