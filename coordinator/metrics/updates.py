# SPDX-License-Identifier: Apache-2.0
"""What became of updates, and what they brought, as metrics. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from coordinator.metrics import catalogue as metric
from federation.exposition import Sample
from federation.leaves import Outcome, Reason
from federation.rounds import RoundState, Run

REFUSALS: Final = (
    Reason.WRONG_MANIFEST,
    Reason.WRONG_FRAGMENT,
    Reason.STALE_BASE,
    Reason.WRONG_ALLOCATION,
    Reason.WRONG_CODEC,
    Reason.WRONG_STEPS,
    Reason.WRONG_TOKENS,
    Reason.WRONG_LENGTH,
    Reason.PAYLOAD_DIGEST,
    Reason.MALFORMED_PAYLOAD,
    Reason.NON_FINITE,
    Reason.NORM_TOO_LARGE,
)
"""Why admission may reject the update that an open round waits for."""

FROM_THE_START: Final = (
    (Outcome.ADMITTED, Reason.NONE),
    *((Outcome.REJECTED, reason) for reason in REFUSALS),
    (Outcome.MISSED, Reason.NO_ANSWER),
    (Outcome.DECLINED, Reason.LOSS_SPIKE),
    (Outcome.DECLINED, Reason.JOB_FAILED),
)
"""Counted from 0 for every member that accepted: `increase` doesn't see the first step of a series that begins at 1."""


@dataclass(frozen=True, kw_only=True)
class _Tally:
    """Sums over all rounds of a run."""

    verdicts: Counter[tuple[str, Outcome, Reason]] = field(default_factory=Counter)
    uploaded: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)


def update_samples(run: Run) -> Iterator[Sample]:
    """One run."""
    found = _tally(run)
    for (site, outcome, reason), count in sorted(found.verdicts.items()):
        yield metric.UPDATES.of(count, run.id, site, outcome.value, reason.value)
    sums = ((metric.UPLOADED, found.uploaded), (metric.TOKENS, found.tokens), (metric.STEPS, found.steps))
    for family, by_site in sums:
        yield from (family.of(total, run.id, site) for site, total in sorted(by_site.items()))
    yield from _newest_commit(run)


def _tally(run: Run) -> _Tally:
    found = _Tally()
    for site in sorted(site for site, answer in run.answers.items() if answer.accepted):
        found.verdicts.update({(site, outcome, reason): 0 for outcome, reason in FROM_THE_START})
        for by_site in (found.uploaded, found.tokens, found.steps):
            by_site[site] = 0
    for each in run.rounds.values():
        for site, verdict in each.verdicts.items():
            found.verdicts[site, verdict.outcome, verdict.reason] += 1
            if verdict.outcome is Outcome.ADMITTED:
                found.uploaded[site] += verdict.payload_bytes
                found.tokens[site] += verdict.new_tokens
                found.steps[site] += verdict.num_steps
    return found


def _newest_commit(run: Run) -> Iterator[Sample]:
    rounds = (run.rounds[number] for number in range(run.next_round - 1, -1, -1))
    newest = next((r.commit for r in rounds if r.state is RoundState.COMMITTED and not r.reverted), None)
    if newest is None:
        return
    yield metric.AGGREGATE_NORM.of(newest.aggregate_norm, run.id)
    for part in newest.contributions:
        yield metric.NORM.of(part.norm, run.id, part.site)
        yield metric.COSINE.of(part.cosine, run.id, part.site)
