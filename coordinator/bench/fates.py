# SPDX-License-Identifier: Apache-2.0
"""What becomes of one site's part in one round: when it trains, when the coordinator hears of it, and the verdict."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from coordinator.bench.allocations import Calendar
from coordinator.bench.hostile import text
from coordinator.bench.setting import BOUNDS, RUN, TOKENS_PER_STEP, P, Setting
from federation import leaves as lv
from federation.ids import short
from federation.leaves import Outcome, Reason
from federation.rounds import Round

SECOND_US: Final = 1_000_000
WINDOW_SECONDS: Final = 2280
"""Of a window's training at a site of speed 1: with uploads, a straggler and the commit a round takes 40 minutes."""

MAX_UPDATE_NORM: Final = 1e6
_STRAGGLER: Final = (1.15, 1.5)
_OUTAGE: Final = 0.006
"""Share of rounds in which most sites are not heard of, so that some rounds have no quorum."""

_SHARES: Final = {Outcome.ADMITTED: 0.968, Outcome.REJECTED: 0.008, Outcome.MISSED: 0.014, Outcome.DECLINED: 0.01}
_HOSTILE_SHARES: Final = {**dict.fromkeys(_SHARES, 0.1), Outcome.ADMITTED: 0.7}

_DECLINES: Final = (
    Reason.JOB_FAILED,
    Reason.JOB_FAILED,
    Reason.LOSS_SPIKE,
    Reason.BUDGET,
    Reason.DISK_FULL,
    Reason.POLICY,
)


@dataclass(frozen=True, kw_only=True)
class Fate:
    """One site in one round, on the history's clock in microseconds.

    Attributes:
        started_us, trained_us: of its window; `trained_us` is when its job is free again.
        verdict_us: when the coordinator decides about it.
        verdict: as it stands if the round is still open then.
        is_heard_of: whether the site reports anything about the round.
    """

    site: str
    round: int
    allocation: str
    num_steps: int
    started_us: int
    trained_us: int
    verdict_us: int
    verdict: lv.VerdictV1
    is_heard_of: bool = True


@dataclass(frozen=True, kw_only=True)
class _Case:
    setting: Setting
    round: Round
    invitation: lv.Invitation
    opened_us: int
    free_us: int
    calendar: Calendar
    random: Random


def fate_of(
    setting: Setting, found: Round, invitation: lv.Invitation, opened_us: int, free_us: int, calendar: Calendar
) -> Fate:
    """Draws it; the same for the same arguments.

    Args:
        opened_us: when the round opened, on the history's clock.
        free_us: when the site's job ends its window before.
        calendar: the site's.
    """
    site = invitation.site
    case = _Case(
        setting=setting,
        round=found,
        invitation=invitation,
        opened_us=opened_us,
        free_us=free_us,
        calendar=calendar,
        random=setting.random("fate", found.number, site),
    )
    fate = _FATES[_outcome(case)](case)
    bound_us = opened_us + BOUNDS.max_round_seconds * SECOND_US
    if fate.verdict_us <= bound_us:
        return fate
    sentence = f"{site}: round allowed {BOUNDS.max_round_seconds} s, waited {BOUNDS.max_round_seconds}.3 s"
    verdict = _word(case, Outcome.MISSED, Reason.ROUND_TOO_LONG, sentence)
    return replace(fate, verdict_us=bound_us + SECOND_US // 3, verdict=verdict)


def late(setting: Setting, fate: Fate, found: Round) -> lv.VerdictV1:
    """The verdict about an update that came when the round had gone on without its site."""
    standing = found.verdicts.get(fate.site)
    if standing is None:
        sentence = f"round {fate.round}: expected open, found {found.state.value}"
    else:
        outcome, reason = standing.outcome.value, standing.reason.value
        sentence = f"round {fate.round}: expected no verdict yet, found {outcome}, {reason}"
    tokens = fate.num_steps * TOKENS_PER_STEP
    return replace(
        fate.verdict,
        outcome=Outcome.REJECTED,
        reason=Reason.LATE,
        sentence=sentence,
        update_digest=setting.digest("update", fate.round, fate.site),
        payload_digest=setting.digest("payload", fate.round, fate.site),
        payload_bytes=setting.payload_bytes(found.fragment),
        weight_tokens=tokens * P,
        new_tokens=tokens,
        num_steps=fate.num_steps,
        norm=0.0,
    )


def second(setting: Setting, verdict: lv.VerdictV1) -> lv.VerdictV1:
    """The verdict about another update for the same round, where one was admitted."""
    update, payload = (setting.digest("second", what, verdict.round, verdict.site) for what in ("update", "payload"))
    return replace(
        verdict,
        outcome=Outcome.EQUIVOCATION,
        reason=Reason.SECOND_DIGEST,
        sentence=f"payload: expected {short(verdict.payload_digest)}, found {short(payload)}",
        update_digest=update,
        payload_digest=payload,
        norm=0.0,
    )


def straggler(setting: Setting, number: int, sites: tuple[str, ...]) -> str:
    """The site that everybody waits for in this round."""
    return setting.random("straggler", number).choice(sites)


def _outcome(case: _Case) -> Outcome:
    setting, number = case.setting, case.round.number
    shares = _HOSTILE_SHARES if setting.hostile else _SHARES
    if number > 1 and setting.random("outage", number).random() < _OUTAGE and case.random.random() < 0.6:
        return Outcome.MISSED
    return case.random.choices(list(shares), list(shares.values()))[0]


def _window(case: _Case, slower: float = 1.0) -> tuple[int, int]:
    """When training begins and ends."""
    number, site = case.round.number, case.invitation.site
    if straggler(case.setting, number, tuple(i.site for i in case.round.invitations)) == site:
        slower *= case.random.uniform(*_STRAGGLER)
    started = max(case.free_us, case.opened_us + int(case.random.uniform(1, 8) * SECOND_US))
    seconds = WINDOW_SECONDS * case.calendar.speed * slower * case.random.uniform(0.97, 1.03)
    return started, started + int(min(seconds, BOUNDS.training_seconds - 60) * SECOND_US)


def _admitted(case: _Case) -> Fate:
    started, trained = _window(case)
    return _fate(case, started, trained, _received(case, trained), _update(case))


def _received(case: _Case, trained_us: int) -> int:
    carried = case.random.uniform(0, 400) if case.random.random() < 0.02 else 0.0
    return trained_us + int((case.random.uniform(20, 150) + carried) * SECOND_US)


def _rejected(case: _Case) -> Fate:
    started, trained = _window(case)
    reason = case.random.choice(list(_REJECTIONS))
    verdict = _update(case, Outcome.REJECTED, reason, _REJECTIONS[reason](case))
    return _fate(case, started, trained, _received(case, trained), verdict)


def _missed(case: _Case) -> Fate:
    started, trained = _window(case)
    overdue = case.random.choice((_no_answer, _no_answer, _training_too_long, _upload_too_long))
    return overdue(case, started, trained)


def _no_answer(case: _Case, started: int, trained: int) -> Fate:
    site, extra = case.invitation.site, _extra(case)
    waited = BOUNDS.answer_seconds + extra + case.random.uniform(0.1, 2.0)
    sentence = f"{site}: first word allowed {BOUNDS.answer_seconds + extra} s, waited {waited:.1f} s"
    verdict = _word(case, Outcome.MISSED, Reason.NO_ANSWER, sentence)
    return _fate(case, started, started, case.opened_us + int(waited * SECOND_US), verdict, is_heard_of=False)


def _training_too_long(case: _Case, started: int, trained: int) -> Fate:
    site, limit = case.invitation.site, BOUNDS.training_seconds + _extra(case)
    waited = limit + case.random.uniform(0.1, 2.0)
    sentence = f"{site}: training allowed {limit} s, waited {waited:.1f} s"
    end = started + int(waited * SECOND_US)
    return _fate(case, started, end, end, _word(case, Outcome.MISSED, Reason.TRAINING_TOO_LONG, sentence))


def _upload_too_long(case: _Case, started: int, trained: int) -> Fate:
    site, limit = case.invitation.site, BOUNDS.upload_seconds + _extra(case)
    waited = limit + case.random.uniform(0.1, 2.0)
    sentence = f"{site}: upload allowed {limit} s, waited {waited:.1f} s"
    end = trained + int(waited * SECOND_US)
    return _fate(case, started, trained, end, _word(case, Outcome.MISSED, Reason.UPLOAD_TOO_LONG, sentence))


def _extra(case: _Case) -> int:
    plan = case.setting.plan
    return next(m.courier_round_trip_seconds for m in plan.members if m.site == case.invitation.site)


def _declined(case: _Case) -> Fate:
    started, trained = _window(case)
    reason = case.random.choice(_DECLINES)
    ended = started + int((trained - started) * case.random.uniform(0.02, 0.9))
    verdict = _word(case, Outcome.DECLINED, reason, f"{case.invitation.site} declined: {reason.value}")
    return _fate(case, started, ended, ended + 2 * SECOND_US, verdict)


_FATES: Final[Mapping[Outcome, Callable[[_Case], Fate]]] = {
    Outcome.ADMITTED: _admitted,
    Outcome.REJECTED: _rejected,
    Outcome.MISSED: _missed,
    Outcome.DECLINED: _declined,
}


def _fate(
    case: _Case, started: int, trained: int, verdict_us: int, verdict: lv.VerdictV1, *, is_heard_of: bool = True
) -> Fate:
    return Fate(
        site=case.invitation.site,
        round=case.round.number,
        allocation=case.invitation.allocation,
        num_steps=case.invitation.num_steps,
        started_us=started,
        trained_us=trained,
        verdict_us=verdict_us,
        verdict=verdict,
        is_heard_of=is_heard_of,
    )


def _word(case: _Case, outcome: Outcome, reason: Reason, sentence: str) -> lv.VerdictV1:
    """A verdict without an update."""
    if case.setting.hostile:
        sentence = text(case.random)
    return lv.VerdictV1(
        run=RUN,
        round=case.round.number,
        site=case.invitation.site,
        outcome=outcome,
        reason=reason,
        sentence=sentence,
    )


def _update(
    case: _Case, outcome: Outcome = Outcome.ADMITTED, reason: Reason = Reason.NONE, sentence: str = ""
) -> lv.VerdictV1:
    """A verdict about an update, with the figures that the site signed."""
    setting, number, site = case.setting, case.round.number, case.invitation.site
    tokens = case.invitation.num_steps * TOKENS_PER_STEP
    if setting.hostile and sentence:
        sentence = text(case.random)
    return lv.VerdictV1(
        run=RUN,
        round=number,
        site=site,
        outcome=outcome,
        reason=reason,
        sentence=sentence,
        update_digest=setting.digest("update", number, site),
        payload_digest=setting.digest("payload", number, site),
        payload_bytes=setting.payload_bytes(case.round.fragment),
        weight_tokens=tokens * P,
        new_tokens=tokens,
        num_steps=case.invitation.num_steps,
        norm=MAX_UPDATE_NORM * 1.7 if reason is Reason.NORM_TOO_LARGE else _norm(case),
    )


def _norm(case: _Case) -> float:
    """Pseudo-gradients shrink as training goes on."""
    return (0.6 + 3.2 * math.exp(-case.round.number / 250)) * case.random.lognormvariate(0, 0.08)


def _found(case: _Case, *name: object) -> str:
    return short(case.setting.digest("found", case.round.number, case.invitation.site, *name))


_REJECTIONS: Final[Mapping[Reason, Callable[[_Case], str]]] = {
    Reason.STALE_BASE: lambda c: f"base: expected {short(c.round.base_digest)}, found {_found(c, 'base')}",
    Reason.WRONG_STEPS: lambda c: f"inner steps: expected {c.invitation.num_steps}, found {c.invitation.num_steps - 1}",
    Reason.PAYLOAD_DIGEST: lambda c: (
        f"payload: expected {short(c.setting.digest('payload', c.round.number, c.invitation.site))}, "
        f"found {_found(c, 'payload')}"
    ),
    Reason.MALFORMED_PAYLOAD: lambda c: f"chunk {c.random.randrange(99)}: int4: expected a scale above 0, found -1.0",
    Reason.NON_FINITE: lambda c: f"chunk {c.random.randrange(99)}: int4: expected finite scales, found nan",
    Reason.NORM_TOO_LARGE: lambda c: f"norm: expected at most {MAX_UPDATE_NORM:.6g}, found {MAX_UPDATE_NORM * 1.7:.6g}",
}
"""Reason -> the sentence that admission writes."""
