# SPDX-License-Identifier: Apache-2.0
"""Rounds as bars, one lane a site: when it was queued, trained, uploaded and waited. Stragglers show at a glance."""

from collections.abc import Iterator
from typing import Final

from coordinator.dashboard.charts import Bar, Chart
from coordinator.dashboard.pages.words import verdict_words
from coordinator.dashboard.times import RoundTimes, Times
from federation.durations import in_words
from federation.leaves import Outcome
from federation.ledger_state import Round, Run

QUEUED: Final = "queued"
UNREPORTED: Final = "not reported"
TRAINING: Final = "training"
UPLOADING: Final = "uploading"
WAITING: Final = "waiting"
WITHOUT_UPDATE: Final = "no update"

NUM_ROUNDS: Final = 8


def timeline(run: Run, times: Times, now: float, first: int | None = None, num_rounds: int = NUM_ROUNDS) -> Chart:
    """The newest rounds, or those from `first` on."""
    numbers = sorted(run.rounds)
    start = max(0, len(numbers) - num_rounds) if first is None else first
    chosen = numbers[start : start + num_rounds]
    lanes = tuple(member.site for member in run.plan.members)
    bars = [bar for n in chosen for site in lanes for bar in _bars(run.rounds[n], times.of(run.id, n), site, now)]
    return Chart(
        id="timeline",
        title=f"Timeline of rounds {chosen[0]} to {chosen[-1]}" if chosen else "Timeline",
        x_title="Time",
        y_title="Site",
        bars=tuple(bars),
        lanes=lanes,
        empty="No round was opened yet.",
        note="Queued: invited, not training yet. Not reported: an update came, nobody heard when it was made. "
        "Waiting: its update is decided on, the round goes on without it.",
    )


def _bars(found: Round, times: RoundTimes, site: str, now: float) -> Iterator[Bar]:
    """What one site did in one round, in order; what is not over ends now."""
    invited = times.invited_us.get(site, 0) / 1e6
    if not invited:
        return
    verdict = found.verdicts.get(site)
    decided = times.verdict_us.get(site, 0) / 1e6 or None
    training, uploading = times.training_at.get(site), times.uploading_at.get(site)
    ended = times.ended_us / 1e6 or None
    last = max(invited, decided or ended or now)  # our clock may be behind the coordinator's
    delivered = verdict is not None and bool(verdict.update_digest)
    was_heard = training is not None or uploading is not None
    begins = QUEUED if was_heard or not delivered else UNREPORTED
    marks = [(begins, invited), (TRAINING, training), (UPLOADING, uploading)]
    known = [(phase, at) for phase, at in marks if at is not None and at <= last]
    for (phase, start), (_, end) in zip(known, [*known[1:], ("", last)], strict=True):
        yield _bar(found, site, phase, start, end)
    if decided is not None:
        admitted = verdict is not None and verdict.outcome is Outcome.ADMITTED
        words = verdict_words(verdict) if verdict else ""
        yield _bar(found, site, WAITING if admitted else WITHOUT_UPDATE, decided, ended or now, words)


def _bar(found: Round, site: str, phase: str, start: float, end: float, why: str = "") -> Bar:
    text = f"round {found.number}, {site}: {phase} for {in_words(max(0.0, end - start))}"
    return Bar(lane=site, phase=phase, start=start, end=max(start, end), text=f"{text}; {why}" if why else text)
