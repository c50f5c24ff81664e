# SPDX-License-Identifier: Apache-2.0
"""Turns verified messages into inputs of the decider, after the checks that need files (admission's 5 to 8).

The mailbox has checked size, sender, signature, sequence and expiry (admission's 1 and 2) before anything comes here.
What does not verify any further goes to the security log, never to the ledger.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from coordinator.inputs import (
    AnswerReceived,
    CommandReceived,
    DeclineReceived,
    EvaluationReceived,
    Input,
    TasksReceived,
    UpdateExamined,
)
from coordinator.messages_in import decide_evaluation, decide_update
from coordinator.tasks_in import decide_tasks, why_not
from federation import dsse, wire
from federation.admission import Finding, check_payload, check_update
from federation.blobs.store import BlobStore
from federation.errors import ConfigError, FederationError, ProtocolError, TrustError, UsageError
from federation.ids import is_digest, short
from federation.limits import DEFAULT_LIMITS
from federation.manifest import Manifest
from federation.merkle import blob_digest
from federation.messages import (
    Command,
    CommandKind,
    EvaluationOffer,
    ManifestAnswer,
    MessageBody,
    RoundDeclined,
    Update,
    UpdateOffer,
)
from federation.roster import SiteEntry
from federation.rounds import Federation
from federation.run_config import check_manifest


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """Checks message bodies against ledger state, manifests and blobs.

    Attributes:
        blobs: the coordinator's blob store.
        manifest_of: manifest of a run that the ledger names.
        suspicious: writes one line of the security log.
        num_threads: that look at a payload.
    """

    blobs: BlobStore
    manifest_of: Callable[[str], Manifest]
    suspicious: Callable[[str, str], None]
    num_threads: int = 1

    def site_input(self, state: Federation, site: SiteEntry, body: MessageBody) -> Input | None:
        """The input that a site's message means, or None where nothing is to be decided."""
        try:
            match body:
                case ManifestAnswer():
                    return AnswerReceived(site=site.site, answer=body)
                case RoundDeclined():
                    return DeclineReceived(site=site.site, decline=body)
                case UpdateOffer():
                    return self._update(state, site, body)
                case EvaluationOffer() if dsse.peek_type(body.signed_evaluation) == dsse.TASKS_TYPE:
                    return self._tasks(state, site, body)
                case EvaluationOffer():
                    return self._evaluation(state, site, body)
                case _:
                    self.suspicious(site.site, f"a {type(body).__name__} is nothing that a site sends")
        except (TrustError, ProtocolError) as error:
            self.suspicious(site.site, str(error))
        return None

    def _update(self, state: Federation, site: SiteEntry, offer: UpdateOffer) -> Input | None:
        payload = dsse.open_envelope(offer.signed_update, dsse.UPDATE_TYPE, site.update_public)
        update = wire.update_from_bytes(payload)
        if update.site != site.site or update.run not in state.runs:
            self.suspicious(site.site, f"update names site {update.site!r:.60} and run {update.run!r:.60}")
            return None
        manifest = self.manifest_of(update.run)
        finding = check_update(update, state, manifest)
        if finding.passed and not finding.seen_before:
            if not is_digest(update.payload_digest) or not self.blobs.has(update.payload_digest):
                # No leaf: the payload may yet come, and whoever decides again then must find the same verdict.
                self.suspicious(site.site, f"update of round {update.round} was offered without its payload")
                return None
            finding = self._check_payload(update, manifest)
        event = UpdateExamined(
            update=update,
            update_digest=blob_digest(offer.signed_update),
            reason=finding.reason,
            sentence=finding.sentence,
            norm=finding.norm,
        )
        if decide_update(state, event):
            self.blobs.put(offer.signed_update)  # evidence first: a leaf names only what is durable
        elif not finding.seen_before:
            self.suspicious(site.site, f"one update too many for round {update.round}: {finding.sentence}")
        return event

    def _check_payload(self, update: Update, manifest: Manifest) -> Finding:
        digest = update.payload_digest
        intact = self.blobs.size(digest) if self.blobs.is_known_intact(digest) else None
        read_bytes = partial(self.blobs.read_range, digest)
        return check_payload(update, manifest, read_bytes, self.num_threads, intact_bytes=intact)

    def _evaluation(self, state: Federation, site: SiteEntry, offer: EvaluationOffer) -> Input | None:
        payload = dsse.open_envelope(offer.signed_evaluation, dsse.EVALUATION_TYPE, site.update_public)
        evaluation = wire.evaluation_from_bytes(payload)
        if evaluation.site != site.site:
            self.suspicious(site.site, f"evaluation names site {evaluation.site!r:.60}")
            return None
        event = EvaluationReceived(evaluation=evaluation, evidence_digest=blob_digest(offer.signed_evaluation))
        if decide_evaluation(state, event):
            self.blobs.put(offer.signed_evaluation)
        return event

    def _tasks(self, state: Federation, site: SiteEntry, offer: EvaluationOffer) -> Input | None:
        payload = dsse.open_envelope(offer.signed_evaluation, dsse.TASKS_TYPE, site.update_public)
        evaluation = wire.tasks_from_bytes(payload)
        if evaluation.site != site.site:
            self.suspicious(site.site, f"task evaluation names site {evaluation.site!r:.60}")
            return None
        if reason := why_not(state, evaluation):
            self.suspicious(site.site, reason)
            return None
        event = TasksReceived(evaluation=evaluation, evidence_digest=blob_digest(offer.signed_evaluation))
        if decide_tasks(state, event):
            self.blobs.put(offer.signed_evaluation)
        return event

    def command_input(self, consortium: str, operator: str, command: Command) -> CommandReceived:
        """The input that an operator's command means.

        Raises:
            UsageError: the manifest of a run-create is missing or breaks a rule.
        """
        if command.kind is not CommandKind.RUN_CREATE:
            return CommandReceived(operator=operator, command=command)
        try:
            data = self.blobs.read(command.manifest_digest, max_bytes=DEFAULT_LIMITS.max_manifest_bytes)
            manifest = wire.manifest_from_bytes(data)
            check_manifest(manifest)
        except ConfigError:
            raise
        except FederationError as error:
            raise UsageError(f"run {command.subject}: manifest {short(command.manifest_digest)}: {error}") from error
        if manifest.consortium != consortium or manifest.run != command.subject:
            raise UsageError(
                f"run {command.subject}: the manifest is for run {manifest.run} of consortium {manifest.consortium}"
            )
        return CommandReceived(operator=operator, command=command, plan=manifest.plan)
