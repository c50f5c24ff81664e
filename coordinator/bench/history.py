# SPDX-License-Identifier: Apache-2.0
"""A consortium's life, one decision after the other: what the coordinator would have written, without its sites.

Every batch is what one input would cause (`coordinator.decider`), and is folded before the next one is made; so a leaf
that does not fit the ledger raises here. The clock is the history's own, in microseconds from its beginning.
"""

import heapq
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Final, TypeAlias

from coordinator.bench.allocations import HOUR_US, Calendar
from coordinator.bench.fates import SECOND_US, Fate, fate_of, late, second
from coordinator.bench.interventions import Intervention, bodies_of, interventions
from coordinator.bench.scores import site_scores
from coordinator.bench.setting import OPERATORS, RUN, Setting
from coordinator.bench.task_scores import EVERY_COMMITS, scorers, site_tasks
from federation import leaves as lv
from federation import wire
from federation.leaves import Outcome, Reason
from federation.manifest import NUMERICS_VERSION
from federation.quorum import QuorumDecision, quorum
from federation.rounds import Federation, Round, RoundState, Run, RunState, apply
from federation.schedule import lr_position
from federation.task_history import is_news
from federation.weights import round_weights

Bodies: TypeAlias = list[lv.Body]
Action: TypeAlias = Callable[[], Bodies]

LOOK_US: Final = 200_000
"""Between a decision and the tick that draws its consequences."""

JOIN_US: Final = 900 * SECOND_US
"""A site that becomes ready so soon after a round has opened is invited to it."""


class History:
    """The decisions still to come, earliest first. `state` is the fold of everything that was made so far.

    Attributes:
        fates: of sites in rounds that are open, by (round, site).
        finished: what sites did in rounds, in the order of their verdicts; who reads it empties it.
    """

    def __init__(
        self, setting: Setting, state: Federation, roster: lv.RosterInstalledV1, *, clock_us: int, origin_us: int = 0
    ) -> None:
        """Goes on where a ledger ends.

        Args:
            state: fold of a ledger whose run exists.
            roster: version 2, to be installed in its time.
            origin_us: when the history's clock began, in microseconds since 1970 as the state's times are.
        """
        self.setting, self.state, self.clock_us = setting, state, clock_us
        self._roster, self.origin_us = roster, origin_us
        self._done: set[Intervention] = set()
        self.fates: dict[tuple[int, str], Fate] = {}
        self.finished: list[Fate] = []
        self.calendars = {site: Calendar(setting, site) for site in setting.sites}
        self._free_us = dict.fromkeys(setting.sites, 0)
        self._order = count()
        self._queue: list[tuple[int, int, Action]] = []
        self._pick_up()

    @property
    def run(self) -> Run:
        """The run as it is now."""
        return self.state.runs[RUN]

    def batches(self, at_us: Callable[[], int] | None = None) -> Iterator[list[lv.Leaf]]:
        """Goes on for ever; each batch is folded when it is given out.

        Args:
            at_us: asked what leaves are stamped with; by default it is the history's clock.
        """
        while self._queue:
            self.clock_us, _, action = heapq.heappop(self._queue)
            bodies = action()
            if bodies:
                yield self._folded(bodies, self.clock_us + self.origin_us if at_us is None else at_us())

    def rebase(self, state: Federation, origin_us: int) -> None:
        """The same history, with the times of its leaves moved."""
        self.state, self.origin_us = state, origin_us

    def _folded(self, bodies: Bodies, at_us: int) -> list[lv.Leaf]:
        leaves = [lv.Leaf(at_us=at_us, body=body) for body in bodies]
        for leaf in leaves:
            self.state = apply(self.state, leaf)
        return leaves

    def _at(self, when_us: int, action: Action) -> None:
        heapq.heappush(self._queue, (max(when_us, self.clock_us), next(self._order), action))

    def _look_soon(self) -> None:
        self._at(self.clock_us + LOOK_US, self._tick)

    def _pick_up(self) -> None:
        """What open rounds wait for; of those opened before, times are taken from the state."""
        for number in self.run.open_rounds:
            found = self.run.rounds[number]
            if found.state is RoundState.SEALED:
                self._at(self.clock_us + LOOK_US, partial(self._commit, number))
            for site in found.waiting_for() if found.state is RoundState.OPEN else ():
                self._expect(found, site, found.opened_at_us - self.origin_us)
        for fragment, head in enumerate(self.run.heads()):
            if head.number and not head.momentum_digest:
                self._at(self.clock_us + LOOK_US, partial(self._record, head.number - 1, fragment))
        if self.run.state is RunState.PAUSED:
            self._at(self.clock_us + HOUR_US, self._resume)
        if not self.run.next_round:
            self._evaluate(self.setting.sites)
            self._score_tasks()
        self._look_soon()

    # -- what time brings --------------------------------------------------------------------------------------------

    def _tick(self) -> Bodies:
        """Seals what can be sealed, else opens what can be opened; one thing at a time, each in a batch of its own."""
        for number in self.run.open_rounds:
            found = self.run.rounds[number]
            if found.state is RoundState.OPEN and not found.waiting_for():
                self._look_soon()
                return self._seal(found)
        if self.run.num_commits() >= self.run.plan.num_rounds and not self.run.open_rounds:
            return [lv.RunCompletedV1(run=RUN)] if self.run.state is RunState.RUNNING else []
        return self._open()

    def _quorum(self, present: set[str], counted: set[str] | None = None) -> QuorumDecision:
        excluded = (self.state.excluded | self.run.declined()) - (counted or set())
        return quorum(self.run.plan, present, excluded)

    def _seal(self, found: Round) -> Bodies:
        admitted = found.admitted()
        sites = {verdict.site for verdict in admitted}
        decision = self._quorum(sites, sites)
        if not decision.reached:
            sentence = wire.clip_sentence(decision.sentence)
            return [lv.RoundAbandonedV1(run=RUN, round=found.number, reason=Reason.NO_QUORUM, sentence=sentence)]
        weights = round_weights([(v.site, v.weight_tokens) for v in admitted], self.run.plan.weighting)
        updates = tuple(
            lv.SealedUpdate(site=v.site, weight=weight, update_digest=v.update_digest, payload_digest=v.payload_digest)
            for v, weight in zip(admitted, weights, strict=True)
        )
        seconds = self.setting.random("commit", found.number).uniform(20, 45)
        self._at(self.clock_us + int(seconds * SECOND_US), partial(self._commit, found.number))
        return [
            lv.RoundSealedV1(
                run=RUN, round=found.number, updates=updates, sentence=wire.clip_sentence(decision.sentence)
            )
        ]

    def _open(self) -> Bodies:
        run, plan = self.run, self.run.plan
        if run.state is not RunState.RUNNING or run.next_round - len(run.void) >= plan.num_rounds:
            return []
        for found in interventions(self.setting, run.next_round):
            if found not in self._done and f"{found.operator}/{found.command}" not in self.state.commands:
                return self._intervene(found)
        fragment = run.schedule().fragment_of(run.next_round)
        if len(run.open_rounds) >= plan.max_rounds_in_flight:
            return []
        if any(run.rounds[number].fragment == fragment for number in run.open_rounds):
            return []
        return self._open_round(run, fragment)

    def _open_round(self, run: Run, fragment: int) -> Bodies:
        members = [site for site in self.setting.sites if self._takes_part(site, run.next_round)]
        ready = {s: span for s in members if (span := self.calendars[s].ready(self.clock_us)) is not None}
        decision = self._quorum(set(ready))
        if not decision.reached:
            later = min(self.calendars[s].next_ready_us(self.clock_us) for s in members if s not in ready)
            self._at(later, self._tick)
            return []
        head, number = run.heads()[fragment], run.next_round
        opened = lv.RoundOpenedV1(
            run=RUN,
            round=number,
            fragment=fragment,
            base_version=head.number,
            base_digest=head.theta_digest,
            lr_position=lr_position(number, len(run.void), run.schedule().window_steps),
            invitations=tuple(self._invitation(site, span.id) for site, span in ready.items()),
            sentence=wire.clip_sentence(decision.sentence),
        )
        opened_us = self.clock_us
        self._at(opened_us, partial(self._expect_all, number, opened_us))
        for site in members:
            join_us = self.calendars[site].next_ready_us(opened_us)
            if site not in ready and join_us <= opened_us + JOIN_US:
                self._at(join_us, partial(self._join, number, site, opened_us))
        return [opened]

    def _takes_part(self, site: str, number: int) -> bool:
        excluded = site in self.state.excluded or site in self.run.declined()
        return not excluded and not self.setting.is_silent(site, number)

    def _invitation(self, site: str, allocation: str) -> lv.Invitation:
        return lv.Invitation(site=site, allocation=allocation, num_steps=self.run.schedule(site).window_steps)

    def _join(self, number: int, site: str, opened_us: int) -> Bodies:
        found = self.run.rounds[number]
        span = self.calendars[site].ready(self.clock_us)
        may_join = self.run.state is RunState.RUNNING and self._takes_part(site, number)
        if not may_join or span is None or found.state is not RoundState.OPEN or found.invitation(site):
            return []
        invitation = self._invitation(site, span.id)
        self._at(self.clock_us, partial(self._expect_late, number, site, opened_us))
        return [lv.SiteInvitedV1(run=RUN, round=number, invitation=invitation)]

    # -- what sites bring --------------------------------------------------------------------------------------------

    def _expect_all(self, number: int, opened_us: int) -> Bodies:
        found = self.run.rounds[number]
        for invitation in found.invitations:
            self._expect(found, invitation.site, opened_us)
        self._look_soon()
        return []

    def _expect_late(self, number: int, site: str, opened_us: int) -> Bodies:
        self._free_us[site] = self.clock_us
        self._expect(self.run.rounds[number], site, opened_us)
        return []

    def _expect(self, found: Round, site: str, opened_us: int) -> None:
        invitation = found.invitation(site)
        assert invitation is not None
        fate = fate_of(self.setting, found, invitation, opened_us, self._free_us[site], self.calendars[site])
        self._free_us[site] = fate.trained_us
        self.fates[found.number, site] = fate
        self._at(fate.verdict_us, partial(self._judge, fate))

    def _judge(self, fate: Fate) -> Bodies:
        self.fates.pop((fate.round, fate.site), None)
        self.finished.append(fate)
        found, verdict = self.run.rounds[fate.round], fate.verdict
        random = self.setting.random("judge", fate.round, fate.site)
        self._look_soon()
        if found.state is not RoundState.OPEN:
            return [late(self.setting, fate, found)] if verdict.update_digest else []
        if verdict.outcome is Outcome.MISSED and random.random() < 0.3:
            self._at(fate.verdict_us + 1800 * SECOND_US, partial(self._deliver_late, fate))
        if verdict.outcome is Outcome.ADMITTED and random.random() < 5e-4:
            self._at(self.clock_us + SECOND_US, partial(_alone, second(self.setting, verdict)))
        return [verdict]

    def _deliver_late(self, fate: Fate) -> Bodies:
        return [late(self.setting, fate, self.run.rounds[fate.round])]

    def _commit(self, number: int) -> Bodies:
        found = self.run.rounds[number]
        if found.state is not RoundState.SEALED:
            return []
        random = self.setting.random("cosines", number)
        norms = {verdict.site: verdict.norm for verdict in found.admitted()}
        contributions = tuple(
            lv.Contribution(site=u.site, norm=norms[u.site], cosine=min(1.0, random.gauss(0.78, 0.04)))
            for u in found.sealed
        )
        committed = lv.RoundCommittedV1(
            run=RUN,
            round=number,
            fragment=found.fragment,
            version=number + 1,
            theta_digest=self.setting.digest("theta", found.fragment, number + 1),
            blob_digest=self.setting.digest("commit", number),
            blob_bytes=self.setting.payload_bytes(found.fragment),
            aggregate_norm=0.8 * sum(c.norm for c in contributions) / len(contributions),
            contributions=contributions,
            numerics_version=NUMERICS_VERSION,
        )
        self._look_soon()
        self._at(self.clock_us + 4 * SECOND_US, partial(self._record, number, found.fragment))
        return [committed]

    def _record(self, number: int, fragment: int) -> Bodies:
        """A rollback may have made the version void meanwhile."""
        if self.run.heads()[fragment].number != number + 1:
            return []
        if self.run.num_commits() % self.setting.evaluate_every == 0:
            self._evaluate(tuple(sorted(v.site for v in self.run.rounds[number].sealed)))
        if self.run.num_commits() % EVERY_COMMITS == 0:
            self._score_tasks()
        momentum, residual = (self.setting.digest(what, number) for what in ("momentum", "residual"))
        return [
            lv.StateRecordedV1(
                run=RUN, round=number, fragment=fragment, momentum_digest=momentum, residual_digest=residual
            )
        ]

    # -- evaluations -------------------------------------------------------------------------------------------------

    def _evaluate(self, sites: tuple[str, ...], request: int = 0) -> None:
        """The model of now, by those of the sites that evaluate, within the next half hour."""
        run = self.run
        model = (run.num_commits(), tuple(v.number for v in run.heads()), run.reverted_at)
        for site in sites:
            if site in self.setting.evaluators:
                seconds = self.setting.random("evaluation", model[0], site).uniform(90, 1500)
                evaluated = partial(self._evaluated, site, request, *model)
                self._at(self.clock_us + int(seconds * SECOND_US), evaluated)

    def _evaluated(self, site: str, request: int, commits: int, versions: tuple[int, ...], reverted_at: int) -> Bodies:
        if self.run.reverted_at != reverted_at:  # that model is void
            return []
        return [
            lv.EvaluationRecordedV1(
                run=RUN,
                site=site,
                request=request,
                num_commits=commits,
                versions=versions,
                scores=site_scores(self.setting, site, commits),
                evidence_digest=self.setting.digest("evaluation", site, request, commits, *versions),
            )
        ]

    def _score_tasks(self, request: int = 0) -> None:
        """The model of now, by those of the sites that score benchmark tasks, within the next two hours."""
        run = self.run
        model = (run.num_commits(), tuple(v.number for v in run.heads()), run.reverted_at)
        for site in sorted(scorers(self.setting)):
            seconds = self.setting.random("tasks", model[0], site).uniform(1800, 7200)
            self._at(self.clock_us + int(seconds * SECOND_US), partial(self._tasks, site, request, *model))

    def _tasks(self, site: str, request: int, commits: int, versions: tuple[int, ...], reverted_at: int) -> Bodies:
        if self.run.reverted_at != reverted_at or not is_news(self.run, site, request, commits, versions):
            return []
        return [
            lv.TasksEvaluatedV1(
                run=RUN,
                site=site,
                request=request,
                num_commits=commits,
                versions=versions,
                scores=site_tasks(self.setting, site, commits),
                evidence_digest=self.setting.digest("tasks", site, request, commits, *versions),
            )
        ]

    # -- what people do ----------------------------------------------------------------------------------------------

    def _intervene(self, found: Intervention) -> Bodies:
        self._done.add(found)
        bodies = bodies_of(self.setting, self.state, found, self._roster)
        for body in bodies:
            if isinstance(body, lv.RunPausedV1):
                self._at(self.clock_us + 5 * HOUR_US, self._resume)
            if isinstance(body, lv.EvaluationRequestedV1):
                self._evaluate(self.setting.sites, body.request)
                self._score_tasks(body.request)
        self._look_soon()
        return bodies

    def _resume(self) -> Bodies:
        if self.run.state is not RunState.PAUSED:
            return []
        self._look_soon()
        return [lv.RunResumedV1(run=RUN, operator=OPERATORS[0], command=f"resume-{self.state.size}")]


def _alone(body: lv.Body) -> Bodies:
    return [body]
