# SPDX-License-Identifier: Apache-2.0
"""What is the case with sites, whatever the run. Pure."""

from collections.abc import Iterator
from typing import Final

from coordinator.notices.notice import Kind, Notice, Severity, notice
from coordinator.notices.silence import courier_seconds, heard_at, is_silent
from coordinator.notices.site_facts import BudgetLine, budgets, certificate_not_after_us
from coordinator.notices.snapshot import Snapshot
from coordinator.notices.text import listed, sentences
from coordinator.notices.thresholds import Thresholds
from federation.durations import in_words

_DAY: Final = 86_400.0


def site_notices(snapshot: Snapshot, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    """Notices of all sites."""
    state = snapshot.state
    for site in sorted(state.revoked):
        yield _revoked(snapshot, site)
    for site in state.sites:
        if site in state.revoked:
            continue
        if site in state.drained:
            yield _drained(site)
        else:
            yield from _silent(snapshot, site, now, thresholds)
        yield from _certificate(snapshot, site, now, thresholds)
        yield from _budgets(snapshot, site, thresholds)


def expiry_severity(seconds_left: float, days: float, critical_days: float) -> Severity | None:
    """How bad it is that something expires in so many seconds; None if it does not matter yet."""
    if seconds_left <= critical_days * _DAY:
        return Severity.CRITICAL
    return Severity.WARNING if seconds_left <= days * _DAY else None


def certificate_severity(seconds_left: float, thresholds: Thresholds) -> Severity | None:
    """The same of a certificate."""
    return expiry_severity(seconds_left, thresholds.certificate_days, thresholds.certificate_critical_days)


def days_left_words(seconds_left: float) -> str:
    """`expires in 3 days`, `has expired`."""
    return f"expires in {in_words(seconds_left)}" if seconds_left > 0 else "has expired"


def _revoked(snapshot: Snapshot, site: str) -> Notice:
    return notice(
        Kind.SITE_REVOKED,
        Severity.WARNING,
        what=f"site {site}: revoked",
        why="an operator shut it out; nothing that its keys sign is taken",
        advice="It comes back with new keys in the next roster.",
        site=site,
    )


def _drained(site: str) -> Notice:
    return notice(
        Kind.SITE_DRAINED,
        Severity.INFO,
        what=f"site {site}: drained",
        why="an operator took it out of new rounds of all runs",
        advice=f"coordinator site resume {site} --as DIR takes it in again.",
        site=site,
    )


def _silent(snapshot: Snapshot, site: str, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    runs = [run.id for run in snapshot.live_runs() if run.is_member(site)]
    if not runs or not is_silent(snapshot, site, now, thresholds):
        return
    heard = heard_at(snapshot, site)
    never = site not in snapshot.observations.sites
    words = "never heard of" if never else f"silent for {in_words(now - heard)}"
    trip = courier_seconds(snapshot, site)
    way = f"its courier may take {in_words(trip)}" if trip else ""
    yield notice(
        Kind.SITE_SILENT,
        Severity.WARNING,
        what=f"site {site}: {words}",
        why=sentences(f"an agent reports every half minute, and this one takes part in {listed(runs)}", way),
        advice="At the site: does site-agent serve run? site-agent doctor SITE_DIR says whether the way is open.",
        site=site,
        since=heard,
    )


def _certificate(snapshot: Snapshot, site: str, now: float, thresholds: Thresholds) -> Iterator[Notice]:
    seen = snapshot.observations.sites.get(site)
    not_after_us = certificate_not_after_us(seen.status) if seen else 0
    left = not_after_us / 1e6 - now
    severity = certificate_severity(left, thresholds) if not_after_us else None
    if severity is not None:
        yield notice(
            Kind.SITE_CERTIFICATE,
            severity,
            what=f"site {site}: its channel certificate {days_left_words(left)}",
            why="its agent renews it by itself ten days before, and has not",
            advice=f"There its agent's log says why. Else invite it anew: coordinator site invite {site} --as DIR",
            site=site,
        )


def _budgets(snapshot: Snapshot, site: str, thresholds: Thresholds) -> Iterator[Notice]:
    seen = snapshot.observations.sites.get(site)
    live = {run.id for run in snapshot.live_runs() if run.is_member(site)}
    for line in budgets(seen.status) if seen else ():
        if line.run in live and line.percent >= thresholds.budget_percent:
            yield _budget(site, line, thresholds)


def _budget(site: str, line: BudgetLine, thresholds: Thresholds) -> Notice:
    spent = line.percent >= thresholds.budget_critical_percent
    return notice(
        Kind.BUDGET,
        Severity.CRITICAL if spent else Severity.WARNING,
        what=f"run {line.run}: {site} has used {line.percent:.0f}% of its budget",
        why=line.sentence() + ("; it starts no new work" if spent else ""),
        advice="The site's operator can raise the budget in policy.toml, or let the run go on without the site.",
        run=line.run,
        site=site,
    )
