# SPDX-License-Identifier: Apache-2.0
"""The coordinator's driver: receive, decide, append, act, publish. `step(now)` is one whole pass.

Order of every decision: blobs are durable, then leaves are appended and fsynced, then the checkpoint is signed, then
the message that caused them is acknowledged. A crash between any two repeats the rest.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from coordinator import observation_store
from coordinator.aggregation import Aggregation
from coordinator.creation import prepare_run
from coordinator.decider import Aggregate, Instruction, RecordState, decide, pending
from coordinator.home import Keys, roster_path
from coordinator.inbox import Examiner
from coordinator.inputs import CommandReceived, Input, RosterAccepted, Tick
from coordinator.invite_documents import Invites, invite_document
from coordinator.metrics_desk import MetricsDesk
from coordinator.observations import Observations
from coordinator.phases import PhaseLog
from coordinator.snapshots import Snapshots
from coordinator.space import short_of_disk
from coordinator.suggestions import StartBoard
from coordinator.tails import Tails, allowed_blobs
from coordinator.telemetry import TelemetryStore
from coordinator.ticks import conditions
from coordinator.timeline import Timelines
from coordinator.views import answer_query, metrics_question
from federation import leaves as lv
from federation import signing, wire
from federation.blobs.store import BlobStore
from federation.durable import FileSystem, failpoint
from federation.errors import ConfigError, FederationError, ProtocolError, TrustError, UsageError
from federation.ids import COORDINATOR
from federation.leaf_text import sentence
from federation.ledger.log import Ledger
from federation.ledger.store import by_site
from federation.mailbox.layout import BLOBS, IN
from federation.mailbox.mailbox import Mailbox, Received
from federation.manifest import Manifest
from federation.messages import (
    Command,
    CommandKind,
    CommandReply,
    Cosignature,
    Header,
    Message,
    Query,
    QueryKind,
    QueryReply,
    SiteStatus,
    Snapshot,
    SnapshotWanted,
    Telemetry,
    UpdateOffer,
)
from federation.roster import OperatorEntry, Role, SiteEntry, TrustedRosters
from federation.rounds import Federation, apply, fold
from federation.state.api import StateStore
from federation.state.background import Courtesy
from federation.trace import mark

LOG = logging.getLogger("coordinator")
SECURITY = logging.getLogger("federation.security")

_FAILPOINTS: Mapping[type[lv.Body], tuple[str, str]] = {
    lv.VerdictV1: ("coordinator.before-verdict", "coordinator.after-verdict"),
    lv.RoundSealedV1: ("", "coordinator.after-seal"),
    lv.RoundCommittedV1: ("coordinator.before-commit-leaf", "coordinator.after-commit-leaf"),
    lv.StateRecordedV1: ("", "coordinator.after-state-recorded"),
}


@dataclass(kw_only=True)
class Coordinator:
    """One coordinator over its directory. Time arrives as an argument; nothing here sleeps or reads a clock.

    Attributes:
        invites: makes the document of an invite; None where this coordinator has no TLS issuer.
        on_change: called when a decision is durable and in force, on the thread that drives.
        on_publish: called when something was posted to a site, on the thread that drives.
        num_threads: of admission and aggregation; decisions and bits are the same for any number.
        in_background: whether work that no decision waits for may be done on threads of its own.
        courtesy: what such work gives way to.
        on_work_done: called on such a thread when the next step has something to do.
    """

    fs: FileSystem
    keys: Keys
    rosters: TrustedRosters
    ledger: Ledger
    blobs: BlobStore
    states: StateStore
    invites: Invites | None = None
    on_change: Callable[[], None] = lambda: None
    on_publish: Callable[[str], None] = lambda site: None
    num_threads: int = 1
    in_background: bool = False
    courtesy: Courtesy = field(default_factory=Courtesy)
    on_work_done: Callable[[], None] = lambda: None
    state: Federation = field(init=False)
    observations: Observations = field(init=False)
    _mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    _manifests: dict[str, Manifest] = field(default_factory=dict)
    _wanted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _snapshots_wanted: dict[str, tuple[SnapshotWanted, ...]] = field(default_factory=dict)
    _turned_away: dict[str, frozenset[str]] = field(default_factory=dict)
    _prunable: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.state = fold(self.ledger.leaves(0, self.ledger.size))
        self.observations = observation_store.load(self.fs)
        self.aggregation = Aggregation(
            blobs=self.blobs,
            states=self.states,
            num_threads=self.num_threads,
            in_background=self.in_background,
            courtesy=self.courtesy,
            on_recorded=lambda: self.on_work_done(),
        )
        self.tails = Tails(ledger=self.ledger, blobs=self.blobs)
        self.snapshots = Snapshots(
            fs=self.fs,
            blobs=self.blobs,
            states=self.states,
            aggregation=self.aggregation,
            manifest_of=self.manifest_of,
        )
        self.telemetry = TelemetryStore(self.fs)
        self.phases = PhaseLog(self.fs)
        self.metrics = MetricsDesk(
            fs=self.fs, blobs=self.blobs, in_background=self.in_background, on_done=lambda: self.on_work_done()
        )
        self.starts = StartBoard()
        self.timelines = Timelines(self.ledger)
        self.examiner = Examiner(
            blobs=self.blobs,
            manifest_of=self.manifest_of,
            suspicious=self._suspicious,
            num_threads=self.num_threads,
        )
        for site, seen in self.observations.sites.items():
            self.tails.reported(site, seen.status.ledger_size)
            self.timelines.reported(self.state.runs.values(), site, seen)

    @property
    def consortium(self) -> str:
        """Id of the consortium."""
        return self.rosters.current.consortium

    def manifest_of(self, run: str) -> Manifest:
        """The manifest that the ledger names for a run."""
        if run not in self._manifests:
            data = self.blobs.read(self.state.runs[run].manifest_digest)
            self._manifests[run] = wire.manifest_from_bytes(data)
        return self._manifests[run]

    def step(self, now: float) -> bool:
        """One pass. Returns whether anything happened, so that a caller may rest when nothing does."""
        before = self.ledger.size
        self._install_roster(now)
        busy = self._receive(now)
        self._tick(now)
        busy = self._carry_out(now) or busy
        self._tick(now)
        busy = self._publish(now) or busy
        busy = self._answer_with_metrics() or busy
        self._prune()
        for mailbox in self._mailboxes.values():
            mailbox.acknowledge()
            mailbox.prune()
        return busy or self.ledger.size != before

    def close(self) -> None:
        """Ends what is under way in the background; a coordinator that is opened again does what is missing."""
        self.metrics.close()
        self.aggregation.close()
        self.states.close()

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _decide(self, event: Input, now: float) -> int:
        """Appends what the decider answers; returns the index of the first new leaf, -1 if there is none."""
        bodies = [_clipped(body) for body in decide(self.state, event, now)]
        if not bodies:
            return -1
        new = [lv.Leaf(at_us=int(now * 1e6), body=body) for body in bodies]
        state = self.state
        for leaf in new:
            state = apply(state, leaf)
        self._failpoints(bodies, 0)
        first = self.ledger.append(new)
        self.state = state
        for body in bodies:
            mark("leaf", kind=type(body).__name__, round=getattr(body, "round", -1), site=getattr(body, "site", ""))
            LOG.info("%s", sentence(body))
        self._failpoints(bodies, 1)
        self.on_change()
        return first

    def _failpoints(self, bodies: list[lv.Body], which: int) -> None:
        for body in bodies:
            name = _FAILPOINTS.get(type(body), ("", ""))[which]
            if name:
                failpoint(name)

    def _tick(self, now: float) -> None:
        sizes = by_site(self.consortium, self.ledger.witnessed)
        observed = replace(
            self.observations,
            witnessed=sizes,
            short_of_disk=short_of_disk(self.state, self.fs, self.states, self.manifest_of),
            roster_expired=self.rosters.expired(int(now * 1e6)),
        )
        self.observations = observed.with_timers(conditions(self.state, observed, now), now)
        self._decide(Tick(observations=self.observations), now)

    def _install_roster(self, now: float) -> None:
        """Takes up roster versions that were installed while this process ran, and records the newest."""
        while self.fs.exists(roster_path(self.rosters.current.version + 1)):
            document = self.fs.read(roster_path(self.rosters.current.version + 1))
            self.rosters.update(document, int(now * 1e6))
        for version in self.rosters.versions:
            if version > self.state.roster_version:
                keys = {entry.site: signing.key_id(entry.update_public) for entry in self.rosters.at(version).sites}
                digest = self.blobs.put(self.rosters.document(version))
                sites = tuple(sorted(keys))
                event = RosterAccepted(version=version, digest=digest, sites=sites, keys=keys)
                for body in decide(self.state, event, now):
                    if isinstance(body, lv.SiteReadmittedV1):
                        self._begin_anew(body.site)
                self._decide(event, now)

    def _begin_anew(self, site: str) -> None:
        """A site with new keys is a new correspondent: both sides count from 1, and it is told the whole ledger.

        What the old key signed verifies no more and would hold up all that follows. Before the leaf, so that a crash
        in between repeats it; until then nobody else touches the mailbox of a revoked site.
        """
        self._mailboxes.pop(site, None)
        self.fs.remove_tree(f"mailbox/{site}")
        self.tails.forget(site)
        self.observations = self.observations.without(site)
        observation_store.forget(self.fs, site)
        for wanted in (self._wanted, self._snapshots_wanted, self._turned_away):
            cast(dict[str, Any], wanted).pop(site, None)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def _mailbox(self, peer: str) -> Mailbox:
        if peer not in self._mailboxes:
            self._mailboxes[peer] = Mailbox(
                self.fs, f"mailbox/{peer}", self.blobs, COORDINATOR, peer, self.consortium, self.keys.coordinator
            )
        return self._mailboxes[peer]

    def _receive(self, now: float) -> bool:
        busy = False
        roster = self.rosters.current
        for site in roster.sites:
            if site.site in self.state.revoked:
                self._turn_away(site.site)
                continue
            for received in self._collect(site.site, site.update_public, now):
                busy = self._from_site(site, received, now) or busy
        for operator in roster.operators:
            for received in self._collect(operator.operator, operator.public, now):
                if not received.ready:  # its manifest or theta_0 is still on the way
                    continue
                self._from_operator(operator, received.message, now)
                self._mailbox(operator.operator).done(received.sequence)
                busy = True
        return busy

    def _collect(self, peer: str, public: bytes, now: float) -> list[Received]:
        mailbox = self._mailbox(peer)
        collected = mailbox.collect(public, int(now * 1e6))
        for rejected in mailbox.rejected:
            self._suspicious(peer, f"{rejected.name}: {rejected.reason}")
        mailbox.rejected.clear()
        return collected

    def _turn_away(self, site: str) -> None:
        """What a revoked site sends stays unread; its courier is told so where it calls."""
        names = frozenset(self.fs.list(f"mailbox/{site}/{IN}")) - {BLOBS}
        new = names - self._turned_away.get(site, frozenset())
        self._turned_away[site] = names
        if new:
            self._suspicious(site, f"revoked: {len(new)} messages of it are not taken")

    def _from_site(self, site: SiteEntry, received: Received, now: float) -> bool:
        """Acts upon a message; returns whether there was anything to do: one that waits for its blobs comes again."""
        body = received.message.body
        if not received.ready:
            if isinstance(body, UpdateOffer):
                return False
            self._mailbox(site.site).refuse(received.sequence, f"{type(body).__name__} names blobs")
            return True  # nothing else that a site says needs one
        match body:
            case SiteStatus():
                self._status(site.site, body, received.message.header, now)
            case Cosignature():
                self._cosigned(site.site, body)
            case Telemetry():
                self.telemetry.add(site.site, body, now)
            case _:
                event = self.examiner.site_input(self.state, site, body)
                if event is not None:
                    self._decide(event, now)
        self._mailbox(site.site).done(received.sequence)
        return True

    def _cosigned(self, site: str, body: Cosignature) -> None:
        try:
            self.ledger.cosign(body.note)
        except (TrustError, ProtocolError) as error:
            self._suspicious(site, f"cosignature: {error}")

    def _status(self, site: str, status: SiteStatus, header: Header, now: float) -> None:
        before = self.observations.sites.get(site)
        self.observations = self.observations.seen(site, status, now)
        self.phases.note(site, before.progress if before else {}, self.observations.sites[site].progress)
        observation_store.save(self.fs, site, self.observations.sites[site])
        self.timelines.reported(self.state.runs.values(), site, self.observations.sites[site])
        self._wanted[site] = status.blobs_wanted
        self._snapshots_wanted[site] = status.snapshots_wanted
        self.tails.reported(site, status.ledger_size, header.received_through, header.roster_version)

    def _from_operator(self, operator: OperatorEntry, message: Message, now: float) -> None:
        mailbox = self._mailbox(operator.operator)
        match message.body:
            case Command() as command:
                mailbox.post(self._command(operator, command, now))
            case Query(kind=QueryKind.METRICS) as query:
                self._ask_for_metrics(operator.operator, query)
            case Query() as query:
                reply, blobs = answer_query(self, query)
                mailbox.post(reply, blobs=blobs)
            case _:
                self._suspicious(operator.operator, f"{type(message.body).__name__} from an operator")

    def _ask_for_metrics(self, operator: str, query: Query) -> None:
        """The reply follows when its blob is there; a restart forgets the question, which leaves nothing behind."""
        mailbox = self._mailbox(operator)
        try:
            self.metrics.ask(metrics_question(self, operator, query), mailbox.outstanding)
        except FederationError as error:
            mailbox.post(QueryReply(id=query.id, ok=False, sentence=error.diagnostics()))

    def _answer_with_metrics(self) -> bool:
        busy = False
        for answer in self.metrics.finished():
            sequence = self._mailbox(answer.operator).post(answer.reply, blobs=filter(None, (answer.blob,)))
            self.metrics.posted(answer, sequence)
            busy = True
        return busy

    def _command(self, operator: OperatorEntry, command: Command, now: float) -> CommandReply:
        """The same answer to a command and to each repetition of it."""
        key = f"{operator.operator}/{command.id}"
        try:
            if Role.OPERATOR not in operator.roles:
                raise UsageError(f"{operator.operator} has no operator's role")
            if key in self.state.commands:
                document = self._document_again(command, self.state.commands[key])
            else:
                document = self._carry_out_command(operator.operator, command, now)
        except (ConfigError, ProtocolError, TrustError) as error:
            return CommandReply(id=command.id, ok=False, sentence=error.diagnostics())
        index = self.state.commands[key]
        return CommandReply(id=command.id, ok=True, sentence="done", leaf_index=index, document=document)

    def _carry_out_command(self, operator: str, command: Command, now: float) -> str:
        """Decides and appends; returns the document of the reply, "" where there is none."""
        if self.rosters.expired(int(now * 1e6)):
            raise UsageError(f"roster version {self.rosters.current.version} has expired; install the next one first")
        event = self.examiner.command_input(self.consortium, operator, command)
        operators = tuple(entry.operator for entry in self.rosters.current.operators)
        event = replace(event, key=self._update_key(command.subject), operators=operators)
        document = self._prepare(event, now)
        self._decide(event, now)
        return document

    def _update_key(self, site: str) -> str:
        """Id of a site's update key in the roster in force, "" if it names no such site."""
        publics = (entry.update_public for entry in self.rosters.current.sites if entry.site == site)
        return next((signing.key_id(public) for public in publics), "")

    def _prepare(self, event: CommandReceived, now: float) -> str:
        """What must hold before the leaf: a run's version 0 is durable, an invite's document can be made."""
        if event.command.kind is CommandKind.RUN_CREATE:
            prepare_run(self.blobs, self.states, event.command.manifest_digest)
        elif event.command.kind in (CommandKind.SITE_INVITE, CommandKind.OPERATOR_INVITE):
            (invite,) = decide(self.state, event, now)
            return invite_document(self.invites, cast(lv.InviteIssuedV1, invite), event.command)
        return ""

    def _document_again(self, command: Command, index: int) -> str:
        (leaf,) = self.ledger.leaves(index, index + 1)
        return invite_document(self.invites, leaf.body, command) if isinstance(leaf.body, lv.InviteIssuedV1) else ""

    def _suspicious(self, peer: str, sentence: str) -> None:
        SECURITY.warning("%s: %s", peer, sentence)

    # -- acting ------------------------------------------------------------------------------------------------------

    def _carry_out(self, now: float) -> bool:
        busy = False
        for instruction in pending(self.state):
            event = self._execute(instruction)
            if event is None:  # under way
                continue
            self._decide(event, now)
            self._prunable.add(instruction.run)
            busy = True
        return busy

    def _prune(self) -> None:
        """Old versions go once the sites can fetch the newest: to delete gigabytes takes its time."""
        for run in sorted(self._prunable):
            self.aggregation.prune(self.state.runs[run])
        self._prunable.clear()

    def _execute(self, instruction: Instruction) -> Input | None:
        run, manifest = self.state.runs[instruction.run], self.manifest_of(instruction.run)
        match instruction:
            case Aggregate():
                return self.aggregation.aggregate(run, manifest, instruction.round)
            case RecordState():
                return self.aggregation.record(run, manifest, instruction.round, instruction.fragment)

    def _publish(self, now: float) -> bool:
        busy = False
        roster = self.rosters.current
        self.starts.look(self.state, self.observations, now)
        for site in roster.sites:
            if site.site in self.state.revoked:
                continue
            mailbox = self._mailbox(site.site)
            sent = self.tails.publish(
                site.site,
                mailbox,
                self.state,
                self.observations.witnessed,
                self.rosters,
                wanted=self._grant(site.site, mailbox),
                snapshots=self._grant_snapshots(site.site, mailbox),
                suggested=self.starts.news(site.site, now),
                now=now,
            )
            if sent:
                self.on_publish(site.site)
            busy = busy or sent
        return busy

    def _grant(self, site: str, mailbox: Mailbox) -> tuple[str, ...]:
        """Blobs that the site asked for, may have, and is not being sent already."""
        asked = self._wanted.pop(site, ())
        if not asked:
            return ()
        theta = {run: self.manifest_of(run).theta_blob for run in self.state.runs}
        allowed = allowed_blobs(self.state, site, theta)
        under_way = self.tails.under_way(site, mailbox.peer_received_through)
        return tuple(d for d in asked if d in allowed and d not in under_way and self.blobs.has(d))

    def _grant_snapshots(self, site: str, mailbox: Mailbox) -> tuple[Snapshot, ...]:
        """Snapshots that the site asked for and may have; each request is answered once."""
        wanted = self._snapshots_wanted.pop(site, ())
        wanted = self.tails.not_under_way(site, wanted, mailbox.peer_received_through)
        return self.snapshots.answer(self.state, site, wanted)


def _clipped(body: lv.Body) -> lv.Body:
    """Sentences that name many sites are cut to what a leaf may hold."""
    text = getattr(body, "sentence", "")
    return cast(lv.Body, replace(cast(Any, body), sentence=wire.clip_sentence(text))) if text else body
