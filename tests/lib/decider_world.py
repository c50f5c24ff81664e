# SPDX-License-Identifier: Apache-2.0
"""A small run in memory, steered through the coordinator's decider: one event in, the list of leaves out."""

from dataclasses import replace

from coordinator.decider import decide
from coordinator.inputs import (
    AnswerReceived,
    CommandReceived,
    RosterAccepted,
    RoundAggregated,
    StateDigested,
    Tick,
    UpdateExamined,
)
from coordinator.observations import Observations
from coordinator.ticks import conditions
from federation import leaves as lv
from federation.leaves import Reason
from federation.messages import (
    AllocationReport,
    AllocationState,
    Command,
    CommandKind,
    ManifestAnswer,
    ParticipationReport,
    Phase,
    SiteStatus,
    Update,
)
from federation.rounds import Federation, apply

BOUNDS = lv.Bounds(
    answer_seconds=10,
    training_seconds=100,
    upload_seconds=20,
    max_round_seconds=500,
    open_grace_seconds=30,
    max_open_wait_seconds=1000,
    seal_grace_seconds=0,
    witness_seconds=300,
    max_abandoned=2,
)
SITES = ("alpha", "beta", "gamma")
MANIFEST = "m" * 64


def key_of(site: str) -> str:
    """Id of the update key that a site has in roster version 1."""
    return f"key-of-{site}"


def plan(**changes: object) -> lv.Plan:
    values = {
        "members": tuple(lv.Member(site=s, num_inner_steps=4, planned_tokens=100) for s in SITES),
        "num_rounds": 3,
        "num_fragments": 1,
        "num_inner_steps": 4,
        "tau": 0,
        "first_window_steps": 0,
        "max_rounds_in_flight": 1,
        "quorum_sites": 2,
        "quorum_token_percent": 50,
        "weighting": "tokens",
        "approvals_required": 1,
        "evaluate_every": 0,
        "witness_quorum": 2,
        "witness_lag": 1,
        "bounds": BOUNDS,
        "theta_digests": ("0" * 64,),
    }
    return lv.Plan(**(values | changes))  # type: ignore[arg-type]


class World:
    """Folds what the decider answers, as the driver does."""

    def __init__(self, **changes: object) -> None:
        self.plan = plan(**changes)
        self.state = Federation()
        self.seen = Observations()
        self.now = 1000.0
        self.roster(1)
        self.command(CommandKind.RUN_CREATE)
        self.command(CommandKind.RUN_APPROVE)
        for site in SITES:
            answer = ManifestAnswer(
                run="demo", manifest_digest=MANIFEST, accepted=True, reason=Reason.NONE, sentence=""
            )
            self.put(AnswerReceived(site=site, answer=answer))
        self.command(CommandKind.RUN_START)
        self.seen = replace(self.seen, witnessed=dict.fromkeys(SITES, 10**6))

    def put(self, event: object) -> list[lv.Body]:
        bodies = decide(self.state, event, self.now)  # type: ignore[arg-type]
        for body in bodies:
            self.state = apply(self.state, lv.Leaf(at_us=int(self.now * 1e6), body=body))
        return bodies

    def roster(self, version: int, sites: tuple[str, ...] = SITES, **keys: str) -> list[lv.Body]:
        """A roster version; keys are `key_of` the site unless given."""
        by_site = {site: keys.get(site, key_of(site)) for site in sites}
        return self.put(RosterAccepted(version=version, digest="r" * 64, sites=sites, keys=by_site))

    def command(
        self,
        kind: CommandKind,
        number: int = 0,
        operator: str = "olga",
        command_id: str = "",
        subject: str = "demo",
        **values: object,
    ) -> list[lv.Body]:
        identifier = command_id or f"{kind.value}-{self.state.size}"
        command = Command(
            id=identifier,
            kind=kind,
            subject=subject,
            number=number,
            manifest_digest=MANIFEST,
            **values,  # type: ignore[arg-type]
        )
        return self.put(CommandReceived(operator=operator, command=command, plan=self.plan, key=key_of(subject)))

    def tick(self, seconds: float = 0.0) -> list[lv.Body]:
        self.now += seconds
        self.seen = self.seen.with_timers(conditions(self.state, self.seen, self.now), self.now)
        return self.put(Tick(observations=self.seen))

    def report(self, site: str, round_number: int | None = None, phase: Phase = Phase.TRAINING) -> None:
        allocation = AllocationReport(run="demo", allocation="a1", state=AllocationState.READY, seconds_left=-1)
        parts = ()
        if round_number is not None:
            parts = (ParticipationReport(run="demo", round=round_number, phase=phase, step=0),)
        status = SiteStatus(ledger_size=0, allocations=(allocation,), participations=parts)
        self.seen = self.seen.seen(site, status, self.now)

    def ready(self, *sites: str) -> None:
        for site in sites or SITES:
            self.report(site)

    def update(self, site: str, round_number: int = 0, payload: str = "", **changes: object) -> list[lv.Body]:
        update = Update(
            consortium="c",
            run="demo",
            manifest_digest=MANIFEST,
            round=round_number,
            fragment=0,
            base_digest="0" * 64,
            site=site,
            allocation="a1",
            codec="fp32",
            weight_tokens=100,
            new_tokens=100,
            num_steps=4,
            payload_digest=payload or f"{site}-payload",
            payload_bytes=8,
        )
        values = {"update_digest": f"{site}-{payload}-u", "reason": Reason.NONE, "sentence": "ok", "norm": 1.0}
        return self.put(UpdateExamined(update=update, **(values | changes)))  # type: ignore[arg-type]

    def commit(self, number: int) -> list[lv.Body]:
        facts = RoundAggregated(
            run="demo",
            round=number,
            theta_digest=f"t{number}",
            blob_digest=f"b{number}",
            blob_bytes=8,
            aggregate_norm=1.0,
            contributions=(),
            numerics_version=1,
        )
        made = self.put(facts)
        self.put(StateDigested(run="demo", round=number, fragment=0, momentum_digest="m", residual_digest="r"))
        return made

    @property
    def run(self):  # type: ignore[no-untyped-def]
        return self.state.runs["demo"]


def kinds(bodies: list[lv.Body]) -> list[str]:
    return [type(body).__name__ for body in bodies]
