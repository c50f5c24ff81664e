# SPDX-License-Identifier: Apache-2.0
"""What people do in a generated run, each at its share of the rounds: so every kind of leaf is in the ledger."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from coordinator.bench import hostile
from coordinator.bench.setting import BOUNDS, OPERATORS, RUN, Setting
from federation import leaves as lv
from federation import wire
from federation.leaves import Outcome, Reason
from federation.rounds import Federation

Bodies: TypeAlias = list[lv.Body]

ROSTER: Final = "roster"
"""The name of the leaf that needs a document: a second version of the roster."""

_ROLLED_BACK: Final = 3
"""Rounds that the rollback undoes, at most."""

_MIN_SITES: Final = 5
"""A smaller run keeps all its sites: quorum would hang on one of them."""


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """Something that happens before a round opens.

    Attributes:
        command: id of the operator's command, "" where nobody ordered it.
    """

    name: str
    operator: str
    command: str


def interventions(setting: Setting, number: int) -> list[Intervention]:
    """What happens before this round opens, in order."""
    names = [name for name, share in _SHARES.items() if number == max(2, round(share * setting.num_rounds))]
    if setting.num_sites < _MIN_SITES:
        names = [name for name in names if name not in _NEEDS_SITES]
    return [_intervention(setting, name) for name in names]


def _intervention(setting: Setting, name: str) -> Intervention:
    if name in _NOBODY:
        return Intervention(name=name, operator="", command="")
    random = setting.random("intervention", name)
    command = f"{name} {hostile.text(random)}" if setting.hostile else f"{name}-{random.randrange(16**6):06x}"
    return Intervention(name=name, operator=random.choice(OPERATORS), command=command)


def bodies_of(setting: Setting, state: Federation, found: Intervention, roster: lv.RosterInstalledV1) -> Bodies:
    """The leaves of an intervention; [] where it no longer fits.

    Args:
        roster: version 2.
    """
    if found.name == ROSTER:
        return [roster] if state.roster_version == roster.version - 1 else []
    return _BODIES[found.name](setting, state, found)


def _site(setting: Setting) -> str:
    return setting.sites[setting.num_sites // 2]


def _drain(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    return [lv.SiteDrainedV1(site=_site(setting), operator=found.operator, command=found.command)]


def _undrain(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    return [lv.SiteResumedV1(site=_site(setting), operator=found.operator, command=found.command)]


def _pause(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    sentence = wire.clip_sentence("".join(hostile.TEXTS)) if setting.hostile else f"paused by {found.operator}"
    reason = Reason.OPERATOR
    return [lv.RunPausedV1(run=RUN, operator=found.operator, command=found.command, reason=reason, sentence=sentence)]


def _silence(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    silent = ", ".join(setting.sites[: setting.num_sites - setting.num_sites // 2])
    sentence = wire.clip_sentence(f"no cosignature within {BOUNDS.witness_seconds} s from {silent}")
    return [lv.RunPausedV1(run=RUN, operator="", command="", reason=Reason.WITNESSES_SILENT, sentence=sentence)]


def _rollback(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    run = state.runs[RUN]
    target = max(-1, run.next_round - 1 - len(run.open_rounds) - _ROLLED_BACK)
    sentence = f"run rolled back to round {target} by {found.operator}"
    reverted = lv.RunRevertedV1(run=RUN, to_round=target, operator=found.operator, command=found.command)
    open_rounds = run.open_rounds
    return [
        *(lv.RoundAbandonedV1(run=RUN, round=n, reason=Reason.REVERTED, sentence=sentence) for n in open_rounds),
        reverted,
    ]


def _abandon(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    open_rounds = state.runs[RUN].open_rounds
    if not open_rounds:
        return []
    number = open_rounds[-1]
    sentence = wire.clip_sentence(f"abandoned by {found.operator}, command {found.command}")
    return [
        lv.RoundAbandonOrderedV1(run=RUN, round=number, operator=found.operator, command=found.command),
        lv.RoundAbandonedV1(run=RUN, round=number, reason=Reason.OPERATOR, sentence=sentence),
    ]


def _decline(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    return [_answer(setting, state, accepted=False, reason=Reason.BUDGET)]


def _accept(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    return [_answer(setting, state, accepted=True, reason=Reason.NONE)]


def _answer(setting: Setting, state: Federation, *, accepted: bool, reason: Reason) -> lv.SiteAnsweredV1:
    digest = state.runs[RUN].manifest_digest
    return lv.SiteAnsweredV1(run=RUN, site=setting.sites[-2], manifest_digest=digest, accepted=accepted, reason=reason)


def _evaluate(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    run = state.runs[RUN]
    return [
        lv.EvaluationRequestedV1(
            run=RUN,
            request=len(run.requests) + 1,
            versions=tuple(v.number for v in run.heads()),
            operator=found.operator,
            command=found.command,
        )
    ]


def _stray(setting: Setting, state: Federation, found: Intervention) -> Bodies:
    """An update of a round that never was."""
    run, site = state.runs[RUN], setting.sites[0]
    number = run.next_round + 4000
    update, payload = (setting.digest("stray", what) for what in ("update", "payload"))
    return [
        lv.VerdictV1(
            run=RUN,
            round=number,
            site=site,
            outcome=Outcome.REJECTED,
            reason=Reason.WRONG_ROUND,
            sentence=f"round: expected one below {run.next_round}, found {number}",
            update_digest=update,
            payload_digest=payload,
            payload_bytes=1,
        )
    ]


_BODIES: Final[Mapping[str, Callable[[Setting, Federation, Intervention], Bodies]]] = {
    "drain": _drain,
    "undrain": _undrain,
    "evaluate": _evaluate,
    "pause": _pause,
    "decline": _decline,
    "accept": _accept,
    "stray": _stray,
    "rollback": _rollback,
    "silence": _silence,
    "abandon": _abandon,
}

_SHARES: Final = {
    "drain": 0.15,
    "undrain": 0.2,
    "evaluate": 0.25,
    "pause": 0.3,
    "decline": 0.35,
    "accept": 0.4,
    "stray": 0.45,
    "rollback": 0.5,
    "silence": 0.6,
    "abandon": 0.7,
    ROSTER: 0.8,
}
"""When, as a share of the history's rounds; a drained site comes back, a paused run goes on."""

_NEEDS_SITES: Final = frozenset({"drain", "undrain", "decline", "accept"})
_NOBODY: Final = frozenset({"silence", "decline", "accept", "stray", ROSTER})
