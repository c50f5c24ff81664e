# SPDX-License-Identifier: Apache-2.0
"""Carries out instructions. Each one can be repeated: after a crash at any point it is simply given again."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from federation import dsse, notes, wire
from federation.blobs.store import BlobStore
from federation.durable import failpoint
from federation.durable.api import FileSystem
from federation.egress import check_outgoing, problems
from federation.egress_words import outgoing_sentence
from federation.errors import FederationError, LaunchFailedError, ObjectNotFoundError, PeerUnavailableError
from federation.ledger.copy import LedgerCopy
from federation.log import in_one_line
from federation.mailbox.mailbox import Mailbox
from federation.messages import (
    Cosignature,
    EvaluationOffer,
    ManifestAnswer,
    MessageBody,
    RoundDeclined,
    SiteFacts,
    SiteStatus,
    UpdateOffer,
)
from federation.trace import mark
from site_agent import instructions as do
from site_agent import job_files, layout, status
from site_agent.entries import AllocationEnded, AllocationSubmitted, Entry, PayloadDropped, Posted
from site_agent.identity import SiteIdentity, job_tag
from site_agent.journal import Journal
from site_agent.launcher.api import Launcher
from site_agent.observations import AgentSettings
from site_agent.observer import Observer
from site_agent.orders import OrderDesk

LOG: Final = logging.getLogger("site_agent")
_US: Final = 1_000_000


@dataclass(kw_only=True)
class Executor:
    """This site's hands.

    Attributes:
        launchers: per trainer name of site.toml.
        trainer_of: name of the trainer that a run's manifest asks for.
        roster_version: of the newest roster that this site trusts.
        software: what a status report calls this release.
        on_posted: called when a message lies in out/: the courier need not wait for the end of the pass.
        guard: called before each instruction; raises if another process has taken this one's place since.
        facts: what a status report tells besides, given the report and the time in microseconds.
    """

    fs: FileSystem
    blobs: BlobStore
    settings: AgentSettings
    identity: SiteIdentity
    consortium: str
    mailbox: Mailbox
    copy: LedgerCopy
    journal: Journal
    orders: OrderDesk
    observer: Observer
    launchers: Mapping[str, Launcher]
    trainer_of: Callable[[str], str]
    roster_version: Callable[[], int]
    software: str
    on_posted: Callable[[], None] = lambda: None
    guard: Callable[[], None] = lambda: None
    facts: Callable[[SiteStatus, int], SiteFacts | None] = lambda report, now_us: None
    _last_status: SiteStatus | None = None
    _last_status_us: int = 0
    _complained: set[str] = field(default_factory=set)

    def carry_out(self, instructions: Iterable[do.Instruction], now_us: int) -> bool:
        """Carries out all of them, in order; returns whether anything was done. One that fails is given again later."""
        busy = False
        for instruction in instructions:
            self.guard()
            try:
                busy = self._carry_out(instruction, now_us) or busy
            except FederationError as error:
                self._complain(f"{type(instruction).__name__}: {in_one_line(error)}")
        return busy

    def _carry_out(self, instruction: do.Instruction, now_us: int) -> bool:
        match instruction:
            case do.SubmitAllocation():
                return self._submit(instruction, now_us)
            case do.ReportStatus():
                return self._report(instruction.status, now_us)
            case do.WriteOutcome():
                self._write_outcome(instruction)
            case do.IssueRound():
                self.orders.round(instruction)
            case do.IssueEvaluation():
                self.orders.evaluation(instruction)
            case do.OrderStop():
                self.orders.stop(instruction)
            case do.CancelAllocation():
                self._launcher(instruction.run).cancel(instruction.handle, force=instruction.force)
                return False
            case do.DropPayload():
                self._drop(instruction)
            case _:
                self._post(instruction, now_us)
        return True

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def _submit(self, instruction: do.SubmitAllocation, now_us: int) -> bool:
        """Invariant I5: what an earlier attempt may have started is looked for before anything is started."""
        launcher = self._launcher(instruction.run)
        directory = self.orders.allocation_path(instruction.run, instruction.number)
        name = job_name(self.identity, instruction.run, instruction.number)
        if self.fs.exists(layout.allocation_paths(instruction.run, instruction.number).order):
            entry = self._earlier_attempt(instruction, launcher.find(directory, name), now_us)
            if entry is not None:
                self._journal(entry)
                return True
        if instruction.otherwise is do.Submission.WAIT:
            return False
        if instruction.otherwise is do.Submission.GIVE_UP:
            self._journal(self._ended(instruction, False, "stopped", "was never started", now_us))
            return True
        failpoint("agent.after-intent")
        self._close_earlier(instruction)
        self.orders.work(instruction, self.trainer_of(instruction.run))
        try:
            handle = launcher.submit(directory, name, instruction.fencing, instruction.begin_after_seconds)
        except LaunchFailedError as error:
            where = f"allocation {instruction.run}/a{instruction.number}"
            LOG.warning("%s: not started, %s: %s", where, error.code, in_one_line(error))
            self._journal(self._ended(instruction, True, error.code, str(error), now_us))
            return True
        failpoint("agent.after-submit")
        self._journal(self._submitted(instruction, handle, now_us))
        return True

    def _close_earlier(self, instruction: do.SubmitAllocation) -> None:
        """Before a successor is submitted, its predecessor can never start again, whatever became of it."""
        number = instruction.number - 1
        if number > 0 and not self.orders.is_closed(instruction.run, number):
            self.orders.close(instruction.run, number)

    def _earlier_attempt(self, instruction: do.SubmitAllocation, handle: str | None, now_us: int) -> Entry | None:
        """What came of an attempt that was not journaled: its job runs, ran, or (None) was never seen."""
        if handle is not None:
            return self._submitted(instruction, handle, now_us)
        paths = layout.allocation_paths(instruction.run, instruction.number)
        if not self.fs.exists(paths.owner) and not self.fs.exists(paths.ended):
            return None
        allocation = next(a for a in self.journal.state.allocations[instruction.run] if a.number == instruction.number)
        end = job_files.end_seen(self.fs, allocation)
        if end is None:
            return self._ended(instruction, True, "killed", "the job is gone without a last word", now_us)
        return self._ended(instruction, end.failed, end.code, end.sentence, now_us)

    @staticmethod
    def _submitted(instruction: do.SubmitAllocation, handle: str, now_us: int) -> AllocationSubmitted:
        return AllocationSubmitted(run=instruction.run, number=instruction.number, handle=handle, at_us=now_us)

    @staticmethod
    def _ended(
        instruction: do.SubmitAllocation, failed: bool, reason: str, sentence: str, now_us: int
    ) -> AllocationEnded:
        return AllocationEnded(
            run=instruction.run,
            number=instruction.number,
            failed=failed,
            reason=reason,
            sentence=sentence,
            at_us=now_us,
        )

    def _write_outcome(self, instruction: do.WriteOutcome) -> None:
        failpoint("agent.before-outcome")
        outcome = self.orders.outcome(instruction)
        failpoint("agent.after-outcome")
        self.observer.outcome_written(instruction.run, outcome)
        mark("outcome", round=outcome.round, kind=outcome.kind.value)

    def _drop(self, instruction: do.DropPayload) -> None:
        self.fs.remove(layout.allocation_paths(instruction.run, instruction.allocation).payload(instruction.round))
        self.blobs.delete(instruction.payload_digest)
        self._journal(PayloadDropped(run=instruction.run, round=instruction.round))

    def _launcher(self, run: str) -> Launcher:
        trainer = self.trainer_of(run)
        if trainer not in self.launchers:
            raise PeerUnavailableError(f"run {run}: expected a launcher for trainer {trainer!r:.60}, found none")
        return self.launchers[trainer]

    # --- messages -----------------------------------------------------------------------------------------------------

    def _post(
        self,
        instruction: do.PostAnswer
        | do.PostDecline
        | do.PostUpdate
        | do.PostEvaluation
        | do.PostTasks
        | do.PostCosignature,
        now_us: int,
    ) -> None:
        """Posts, then notes that it did: a crash in between posts the same again, which the coordinator bears."""
        blobs: tuple[str, ...] = ()
        match instruction:
            case do.PostAnswer():
                body: MessageBody = _answer(instruction)
            case do.PostDecline():
                body = _declined(instruction)
            case do.PostUpdate():
                body, blobs = self._offer(instruction), (instruction.update.payload_digest,)
            case do.PostEvaluation():
                payload = wire.evaluation_to_bytes(instruction.evaluation)
                signed = dsse.sign_envelope(dsse.EVALUATION_TYPE, payload, self.identity.update)
                body = EvaluationOffer(signed_evaluation=signed)
            case do.PostTasks():
                payload = wire.tasks_to_bytes(instruction.evaluation)
                signed = dsse.sign_envelope(dsse.TASKS_TYPE, payload, self.identity.update)
                body = EvaluationOffer(signed_evaluation=signed)
            case do.PostCosignature():
                body = self._cosignature(instruction, now_us)
        self._send(body, blobs)
        mark("posted", kind=type(instruction).__name__, key=instruction.key)
        self._journal(Posted(key=instruction.key))

    def _offer(self, instruction: do.PostUpdate) -> UpdateOffer:
        """The signature is deterministic (RFC 8032) and the descriptor is the journal's: the same bytes every time."""
        if not self.blobs.has(instruction.update.payload_digest):
            raise ObjectNotFoundError(f"round {instruction.update.round}: the signed payload is gone from the spool")
        failpoint("agent.before-sign")
        payload = wire.update_to_bytes(instruction.update)
        signed = dsse.sign_envelope(dsse.UPDATE_TYPE, payload, self.identity.update)
        failpoint("agent.after-sign")
        return UpdateOffer(signed_update=signed)

    def _cosignature(self, instruction: do.PostCosignature, now_us: int) -> Cosignature:
        failpoint("agent.before-cosign")
        name = notes.witness_name(self.consortium, self.identity.site)
        note = self.copy.cosign(self.identity.witness, name, now_us // _US)
        return Cosignature(size=instruction.cosigned.size, root=instruction.cosigned.root, note=note)

    def _report(self, report: SiteStatus, now_us: int) -> bool:
        """Sends the report if it changed or the heartbeat is due. Facts go with it, and are no reason to send one."""
        due = now_us - self._last_status_us >= self.settings.heartbeat_seconds * _US
        news = status.changed(self._last_status, report)
        if not due and not news:
            return False
        facts = self._facts(report, now_us)
        self._send(replace(report, software=self.software, sent_at_us=now_us, facts=facts))
        self._last_status, self._last_status_us = report, now_us
        return news

    def _facts(self, report: SiteStatus, now_us: int) -> SiteFacts | None:
        """None where they cannot be had or may not leave: without a report this site would be invited to nothing."""
        try:
            found = self.facts(report, now_us)
        except (FederationError, ArithmeticError, ValueError) as error:
            refused, found = f"{type(error).__name__}: {error}", None
        else:
            refused = next(problems(found), "") if found is not None else ""
        if refused:
            self._complain(f"the status says nothing about the site itself: {refused}")
        return None if refused else found

    def _send(self, body: MessageBody, blobs: tuple[str, ...] = ()) -> None:
        """Everything that this site says passes here, or `TelemetrySender`; what may not leave it does not."""
        check_outgoing(body)
        checkpoint = (self.copy.size, self.copy.root()) if self.copy.size else (0, "")
        self.mailbox.post(body, blobs=blobs, roster_version=self.roster_version(), checkpoint=checkpoint)
        self.on_posted()

    # ------------------------------------------------------------------------------------------------------------------

    def _journal(self, entry: Entry) -> None:
        self.journal.append([entry])

    def _complain(self, sentence: str) -> None:
        """Once per process and sentence: a pass comes twice a second."""
        if sentence not in self._complained:
            self._complained.add(sentence)
            LOG.warning("%s", sentence)


def job_name(identity: SiteIdentity, run: str, number: int) -> str:
    """What the batch system calls the job of an allocation: unique to this site's keys, run and number, for ever."""
    return f"federation-{run}-a{number}-{job_tag(identity)}"


def _answer(instruction: do.PostAnswer) -> ManifestAnswer:
    answer = instruction.answer
    return ManifestAnswer(
        run=answer.run,
        manifest_digest=answer.manifest_digest,
        accepted=answer.accepted,
        reason=answer.reason,
        sentence=outgoing_sentence(answer.reason, answer.sentence),
    )


def _declined(instruction: do.PostDecline) -> RoundDeclined:
    refusal = instruction.refusal
    sentence = outgoing_sentence(refusal.reason, refusal.sentence)
    return RoundDeclined(run=refusal.run, round=refusal.round, reason=refusal.reason, sentence=sentence)
