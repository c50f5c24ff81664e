# SPDX-License-Identifier: Apache-2.0
"""What this site's policy says to a manifest that the ledger names. The manifest may be hostile."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from federation import wire
from federation.errors import FederationError
from federation.leaves import Reason
from federation.manifest import Manifest
from federation.rounds import Run
from site_agent import budget
from site_agent.agent_state import AgentState
from site_agent.observations import Answer, ManifestSeen
from site_agent.policy import Policy, decide_manifest, may_start


@dataclass(frozen=True, kw_only=True)
class ManifestJudge:
    """The policy, bound to this site.

    Attributes:
        policy: of policy.toml.
        site, consortium: from the site's own files.
        trainers: digest of the source of each trainer that site.toml resolves, as installed.
        num_gpus: of one job. gpu_hours: that one job can use.
    """

    policy: Policy
    site: str
    consortium: str
    trainers: Mapping[str, str]
    num_gpus: int = 0
    gpu_hours: float = 0.0

    def judge(self, run: Run, data: bytes) -> ManifestSeen:
        """The answer to the manifest `data`, whose digest the ledger names for `run`. Never raises for its content.

        1. The bytes are a manifest. 2. It is of this run, and says what the ledger says. 3. The policy's own checks.
        """
        try:
            manifest = wire.manifest_from_bytes(data)  # 1
        except FederationError as error:
            return self._invalid(run, f"the manifest cannot be read: {error}")
        if manifest.run != run.id or manifest.plan != run.plan:  # 2
            return self._invalid(run, "the manifest is of another run, or its plan differs from the ledger's")
        return self._decided(run, manifest)

    def shortage(self, state: AgentState, now_us: int) -> str:
        """Why the day's budget lets no further job start, "" if it does."""
        answer = may_start(
            self.policy,
            gpu_hours_spent=budget.gpu_hours_spent(state, now_us, self.num_gpus, self.gpu_hours),
            bytes_spent=budget.bytes_spent(state, now_us),
            gpu_hours_wanted=self.gpu_hours,
        )
        return "" if answer.answer is Answer.ACCEPT else answer.sentence

    def _decided(self, run: Run, manifest: Manifest) -> ManifestSeen:
        answer = decide_manifest(  # 3
            self.policy,
            manifest,
            run.manifest_digest,
            site=self.site,
            consortium=self.consortium,
            trainers=self.trainers,
        )
        seen = ManifestSeen(
            run=run.id,
            digest=run.manifest_digest,
            answer=answer.answer,
            reason=answer.reason,
            sentence=wire.clip_sentence(answer.sentence),
        )
        if answer.answer is Answer.DECLINE:
            return seen
        return replace(
            seen,
            theta_blob=manifest.theta_blob,
            codec=manifest.codecs.up,
            trainer=manifest.trainer.name,
            consortium=manifest.consortium,
            num_elements=tuple(table.num_elements for table in manifest.fragments),
        )

    def _invalid(self, run: Run, sentence: str) -> ManifestSeen:
        return ManifestSeen(
            run=run.id,
            digest=run.manifest_digest,
            answer=Answer.DECLINE,
            reason=Reason.MANIFEST_INVALID,
            sentence=wire.clip_sentence(sentence),
        )
