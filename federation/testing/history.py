# SPDX-License-Identifier: Apache-2.0
"""A complete small history with every kind of leaf that matters to the fold, for tests and the golden ledger."""

from federation import leaves as lv
from federation.leaves import Outcome, Reason
from federation.testing.manifests import BOUNDS

SITES = ("alpha", "beta", "gamma")
PLAN = lv.Plan(
    members=tuple(lv.Member(site=site, num_inner_steps=4, planned_tokens=100) for site in SITES),
    num_rounds=2,
    num_fragments=1,
    num_inner_steps=4,
    tau=0,
    first_window_steps=0,
    max_rounds_in_flight=1,
    quorum_sites=2,
    quorum_token_percent=50,
    weighting="tokens",
    approvals_required=1,
    evaluate_every=1,
    witness_quorum=2,
    witness_lag=1,
    bounds=BOUNDS,
    theta_digests=("0" * 64,),
)


def digest_of(name: str) -> str:
    """A stand-in digest that differs by name."""
    return name.encode().hex().ljust(64, "0")[:64]


def _opened(number: int, base_version: int, base: str, lr_position: int) -> lv.RoundOpenedV1:
    invitations = tuple(lv.Invitation(site=site, allocation="a1", num_steps=4) for site in SITES)
    return lv.RoundOpenedV1(
        run="demo",
        round=number,
        fragment=0,
        base_version=base_version,
        base_digest=base,
        lr_position=lr_position,
        invitations=invitations,
        sentence="3 of 3 sites",
    )


def _verdict(number: int, site: str, outcome: Outcome, reason: Reason = Reason.NONE) -> lv.VerdictV1:
    return lv.VerdictV1(
        run="demo",
        round=number,
        site=site,
        outcome=outcome,
        reason=reason,
        sentence="",
        update_digest=digest_of(f"u{number}{site}"),
        payload_digest=digest_of(f"p{number}{site}"),
        payload_bytes=8,
        weight_tokens=100,
        new_tokens=100,
        num_steps=4,
        norm=1.5,
    )


def _committed(number: int, base_version: int, base: str, lr_position: int) -> list[lv.Body]:
    updates = tuple(
        lv.SealedUpdate(
            site=site,
            weight=0.5,
            update_digest=digest_of(f"u{number}{site}"),
            payload_digest=digest_of(f"p{number}{site}"),
        )
        for site in SITES[:2]
    )
    return [
        _opened(number, base_version, base, lr_position),
        _verdict(number, "alpha", Outcome.ADMITTED),
        _verdict(number, "beta", Outcome.ADMITTED),
        _verdict(number, "alpha", Outcome.EQUIVOCATION, Reason.SECOND_DIGEST),
        _verdict(number, "gamma", Outcome.MISSED, Reason.NO_ANSWER),
        lv.RoundSealedV1(run="demo", round=number, updates=updates, sentence="2 of 3 sites"),
        lv.RoundCommittedV1(
            run="demo",
            round=number,
            fragment=0,
            version=number + 1,
            theta_digest=digest_of(f"t{number}"),
            blob_digest=digest_of(f"b{number}"),
            blob_bytes=8,
            aggregate_norm=1.25,
            contributions=tuple(lv.Contribution(site=site, norm=1.5, cosine=0.75) for site in SITES[:2]),
            numerics_version=1,
        ),
        lv.StateRecordedV1(
            run="demo",
            round=number,
            fragment=0,
            momentum_digest=digest_of(f"m{number}"),
            residual_digest=digest_of(f"r{number}"),
        ),
    ]


def history() -> list[lv.Leaf]:
    """Create, approve, start; commit, commit, abandon, roll back; commit again, pause and resume; complete."""
    scores = (lv.LanguageScore(language="de", bits_per_byte=2.5, num_bytes=4096),)
    bodies: list[lv.Body] = [
        lv.RosterInstalledV1(version=1, digest=digest_of("roster"), sites=SITES),
        lv.RunCreatedV1(run="demo", manifest_digest=digest_of("m"), plan=PLAN, operator="olga", command="create"),
        *(
            lv.SiteAnsweredV1(run="demo", site=site, manifest_digest=digest_of("m"), accepted=True, reason=Reason.NONE)
            for site in SITES
        ),
        lv.RunApprovedV1(run="demo", operator="olga", command="approve"),
        lv.RunStartedV1(run="demo", operator="olga", command="start"),
        *_committed(0, 0, "0" * 64, 0),
        *_committed(1, 1, digest_of("t0"), 4),
        _opened(2, 2, digest_of("t1"), 8),
        lv.RoundAbandonedV1(run="demo", round=2, reason=Reason.REVERTED, sentence="rolled back"),
        lv.RunRevertedV1(run="demo", to_round=0, operator="olga", command="rollback"),
        lv.SiteDrainedV1(site="gamma", operator="olga", command="drain"),
        lv.RunPausedV1(run="demo", operator="olga", command="pause", reason=Reason.OPERATOR, sentence="paused"),
        lv.RunResumedV1(run="demo", operator="olga", command="resume"),
        lv.SiteResumedV1(site="gamma", operator="olga", command="undrain"),
        *_committed(3, 1, digest_of("t0"), 4),
        lv.EvaluationRequestedV1(run="demo", request=1, versions=(4,), operator="olga", command="evaluate"),
        lv.EvaluationRecordedV1(
            run="demo",
            site="alpha",
            request=1,
            num_commits=2,
            versions=(4,),
            scores=scores,
            evidence_digest=digest_of("e"),
        ),
        lv.RunCompletedV1(run="demo"),
    ]
    return [lv.Leaf(at_us=1_000_000 * index, body=body) for index, body in enumerate(bodies)]
