# SPDX-License-Identifier: Apache-2.0
"""What this site's policy says to a manifest that the ledger names, and to jobs of it now. It may be hostile."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from federation import wire
from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.errors import FederationError
from federation.leaves import Reason
from federation.manifest import Manifest
from federation.rounds import Federation, Run, RunState
from site_agent import budget
from site_agent.agent_state import AgentState
from site_agent.budget import DAY_US, US, JobSize
from site_agent.budget_units import NativeUnit
from site_agent.observations import Answer, ManifestSeen
from site_agent.policy import (
    NO_ORIGIN,
    Origin,
    Policy,
    StartFigures,
    decide_manifest,
    may_start,
    may_start_within,
    must_stop,
)
from site_agent.trainer.command_rules import why_not_in_whole_windows

NO_GPUS: Final = JobSize()
NO_UNIT: Final = NativeUnit(name="native units", per_gpu_hour=None, source="nobody")


@dataclass(frozen=True, kw_only=True)
class ManifestJudge:
    """The policy, bound to this site.

    Attributes:
        policy: of policy.toml.
        site, consortium: from the site's own files.
        trainers: digest of the source of each trainer that site.toml resolves, as installed.
        data_sets: names of site.toml's data sets, () where it names none.
        job: what one job gets.
        unit: the centre's own unit.
        command_trainers: names of trainers that run an executable, which trains whole windows.
        drain_seconds: that a job which is told to end may take, until the launcher ends it.
    """

    policy: Policy
    site: str
    consortium: str
    trainers: Mapping[str, str]
    data_sets: tuple[str, ...] = ()
    job: JobSize = NO_GPUS
    unit: NativeUnit = NO_UNIT
    command_trainers: frozenset[str] = frozenset()
    drain_seconds: float = 360.0

    def judge(self, run: Run, data: bytes, origin: Origin = NO_ORIGIN) -> ManifestSeen:
        """The answer to the manifest `data`, whose digest the ledger names for `run`. Never raises for its content.

        1. The bytes are a manifest. 2. It is of this run, and says what the ledger says. 3. The policy's own checks.
        """
        try:
            manifest = wire.manifest_from_bytes(data)  # 1
        except FederationError as error:
            return self._invalid(run, f"the manifest cannot be read: {error}")
        if manifest.run != run.id or manifest.plan != run.plan:  # 2
            return self._invalid(run, "the manifest is of another run, or its plan differs from the ledger's")
        if manifest.trainer.name in self.command_trainers and (why := why_not_in_whole_windows(run.plan, self.site)):
            return self._invalid(run, f"trainer {manifest.trainer.name} trains whole windows: {why}")
        return self._decided(run, manifest, origin)

    def today(self, seen: ManifestSeen, state: AgentState, now_us: int) -> ManifestSeen:
        """The same manifest, with what hours, maintenance and budgets say to its jobs now."""
        figures, now = self.figures(seen, state, now_us), datetime.fromtimestamp(now_us / US, UTC)
        start = may_start(self.policy, figures, now)
        stop = must_stop(self.policy, figures, now, self.drain_seconds)
        may = start.answer is Answer.ACCEPT
        return replace(
            seen,
            shortage="" if may else wire.clip_sentence(start.sentence),
            shortage_reason=Reason.BUDGET if may else start.reason,
            stop=stop.word if stop else "",
            stop_sentence=stop.sentence if stop else "",
            num_gpus=self.job.num_gpus,
            seconds_limit=self.job.seconds_limit,
        )

    def latest_start_seconds(self, seen: ManifestSeen, state: AgentState, now_us: int, limit_seconds: float) -> float:
        """How much later than now, at most `limit_seconds`, hours and maintenance still let a job of it begin."""
        figures, now = self.figures(seen, state, now_us), datetime.fromtimestamp(now_us / US, UTC)
        return may_start_within(self.policy, figures, now, limit_seconds)

    def figures(self, seen: ManifestSeen, state: AgentState, now_us: int) -> StartFigures:
        """What the policy's limits are compared with for one more job of the manifest's run."""
        return StartFigures(
            day_gpu_hours=budget.gpu_hours(state, self.job, now_us, since_us=now_us - DAY_US),
            day_bytes=budget.bytes_spent(state, now_us),
            run_gpu_hours=budget.gpu_hours(state, self.job, now_us, run=seen.run),
            job_gpu_hours=self.job.gpu_hours,
            job_bytes=seen.bytes_in_flight,
            wall_seconds=self.job.seconds_limit,
            unit=self.unit.name,
            units_per_gpu_hour=self.unit.per_gpu_hour,
        )

    def _decided(self, run: Run, manifest: Manifest, origin: Origin) -> ManifestSeen:
        answer = decide_manifest(  # 3
            self.policy,
            manifest,
            run.manifest_digest,
            site=self.site,
            consortium=self.consortium,
            trainers=self.trainers,
            data_sets=self.data_sets,
            origin=origin,
        )
        seen = ManifestSeen(
            run=run.id,
            digest=run.manifest_digest,
            answer=answer.answer,
            reason=answer.reason,
            sentence=wire.clip_sentence(answer.sentence),
            trainer=manifest.trainer.name,  # also of a declined one: its job may still run, and must be ended
        )
        if answer.answer is Answer.DECLINE:
            return seen
        return replace(
            seen,
            theta_blob=manifest.theta_blob,
            codec=manifest.codecs.up,
            consortium=manifest.consortium,
            num_elements=tuple(table.num_elements for table in manifest.fragments),
            data_sets=answer.data_sets,
            bytes_in_flight=_bytes_in_flight(manifest),
        )

    def _invalid(self, run: Run, sentence: str) -> ManifestSeen:
        return ManifestSeen(
            run=run.id,
            digest=run.manifest_digest,
            answer=Answer.DECLINE,
            reason=Reason.MANIFEST_INVALID,
            sentence=wire.clip_sentence(sentence),
        )


def _bytes_in_flight(manifest: Manifest) -> int:
    """Payloads have the same length for any content: as many of the longest as rounds may be open at once."""
    codec = get_codec(manifest.codecs.up)
    longest = max(payload_bytes(codec, table.num_elements) for table in manifest.fragments)
    return manifest.plan.max_rounds_in_flight * longest


def origin_of(federation: Federation, run: Run) -> Origin:
    """Whose run it is: the operator whose command made its first leaf, and those who approved it.

    It rests on the ledger: a coordinator that names operators who never signed such a command leaves a leaf that they
    and every auditor can hold against it.
    """
    found = (key for key, leaf in federation.commands.items() if leaf == run.created_leaf)
    creator = next(found, "").partition("/")[0]
    return Origin(created_by=creator, approved_by=run.approved_by, is_draft=run.state is RunState.DRAFT)
