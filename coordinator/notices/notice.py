# SPDX-License-Identifier: Apache-2.0
"""What a notice is: something that is the case, why, and what to do about it. Pure."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from coordinator.notices.text import MAX_ADVICE_CHARS, MAX_WHAT_CHARS, MAX_WHY_CHARS, plain

_MAX_KEY_CHARS: Final = 200


class Severity(StrEnum):
    """How soon somebody should look."""

    INFO = "info"
    """Good to know."""

    WARNING = "warning"
    """Look at it today."""

    CRITICAL = "critical"
    """A run stands still or soon will, or evidence is damaged."""

    @property
    def rank(self) -> int:
        """Grows with severity."""
        return list(Severity).index(self)


class Kind(StrEnum):
    """What a notice is about; the first part of its key."""

    ROUND_STALLED = "round-stalled"
    NO_ROUND_OPENS = "no-round-opens"
    RUN_PAUSED = "run-paused"
    RUN_COMPLETED = "run-completed"
    RUN_ABORTED = "run-aborted"
    QUORUM_AT_RISK = "quorum-at-risk"
    COSIGNATURE_MISSING = "cosignature-missing"
    UPDATE_REJECTED = "update-rejected"
    UPDATE_DECLINED = "update-declined"
    UPDATE_MISSED = "update-missed"
    EQUIVOCATION = "equivocation"
    MANIFEST_DECLINED = "manifest-declined"
    LOSS_SPIKE = "loss-spike"
    LANGUAGE_REGRESSION = "language-regression"
    SITE_SILENT = "site-silent"
    SITE_REVOKED = "site-revoked"
    SITE_DRAINED = "site-drained"
    BUDGET = "budget"
    SITE_CERTIFICATE = "site-certificate"
    COORDINATOR_CERTIFICATE = "coordinator-certificate"
    ROSTER_EXPIRY = "roster-expiry"
    COORDINATOR_AWAY = "coordinator-away"
    LEDGER_BROKEN = "ledger-broken"
    TEST = "test"


NEWS: Final = frozenset({Kind.RUN_COMPLETED, Kind.RUN_ABORTED})
"""What has happened and never ends: said once, however long it is the case."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One thing that is the case. All texts are plain lines of bounded length.

    Attributes:
        key: the same as long as it is the same thing: kind, run, site.
        what: a short sentence.
        why: the figures that it rests on.
        advice: what to do.
        subject_run, subject_site: "" where it is about none.
        since: unix seconds; 0.0 where only the observer's own time is known.
    """

    key: str
    severity: Severity
    what: str
    why: str
    advice: str
    subject_run: str = ""
    subject_site: str = ""
    since: float = 0.0

    @property
    def kind(self) -> str:
        """A value of `Kind`."""
        return self.key.partition("/")[0]

    @property
    def is_news(self) -> bool:
        """Whether it is something that has happened, not something that lasts."""
        return self.kind in NEWS


def key_of(kind: Kind, run: str = "", site: str = "") -> str:
    """The key of a notice; bounded, whatever the names are."""
    key = f"{kind.value}/{run}/{site}"
    if len(key) <= _MAX_KEY_CHARS:
        return key
    digest = hashlib.sha256(key.encode(errors="backslashreplace")).hexdigest()
    return f"{kind.value}/{digest}"


def notice(
    kind: Kind,
    severity: Severity,
    *,
    what: str,
    why: str,
    advice: str,
    run: str = "",
    site: str = "",
    since: float = 0.0,
) -> Notice:
    """A notice whose texts are made fit for one line."""
    return Notice(
        key=key_of(kind, run, site),
        severity=severity,
        what=plain(what, MAX_WHAT_CHARS),
        why=plain(why, MAX_WHY_CHARS),
        advice=plain(advice, MAX_ADVICE_CHARS),
        subject_run=plain(run, 40),
        subject_site=plain(site, 40),
        since=max(since, 0.0),
    )
