# SPDX-License-Identifier: Apache-2.0
"""What sites say about themselves: hardware, versions, queues, budgets, hours. n/a where one said nothing."""

from math import floor
from typing import Any, Final

from coordinator.dashboard.page import Figure, Figures
from coordinator.dashboard.tables import Kind, Link, Table, columns
from coordinator.observations import Observations, SiteSeen
from coordinator.site_views import facts_document
from federation.messages import SiteFacts, StartChange

WARN_CERTIFICATE_DAYS: Final = 7
WARN_BUDGET_SHARE: Final = 0.8
_DAY: Final = 86_400.0


def facts_of(seen: SiteSeen | None) -> SiteFacts | None:
    """What an honest agent says; None of an older one, and where something in it is nothing that an agent says."""
    return seen.status.facts if seen is not None and facts_document(seen) is not None else None


def facts_row(seen: SiteSeen | None, now: float) -> dict[str, Any]:
    """The cells of a table of sites."""
    facts = facts_of(seen)
    if facts is None:
        return {}
    return {
        "profile": facts.profile or None,
        "hardware": hardware(facts),
        "certificate": _whole_days(certificate_days(facts, now)),
        "queue": facts.queue_wait_seconds if facts.queue_wait_seconds >= 0 else None,
        "gpu_hours": used_gpu_hours(facts),
        "window": window_words(facts),
    }


def hardware(facts: SiteFacts) -> str | None:
    """`4 × NVIDIA A100, x86_64`."""
    count = f"{facts.num_accelerators} × " if facts.num_accelerators > 0 else ""
    name = (
        f"{count}{facts.accelerator}" if facts.accelerator else "no accelerator" if not facts.num_accelerators else ""
    )
    return ", ".join(part for part in (name, facts.architecture) if part) or None


def certificate_days(facts: SiteFacts, now: float) -> float | None:
    """Days until the channel's certificate expires."""
    return (facts.certificate_not_after_us / 1e6 - now) / _DAY if facts.certificate_not_after_us else None


def _whole_days(days: float | None) -> int | None:
    return None if days is None else floor(days)


def used_gpu_hours(facts: SiteFacts) -> float | None:
    """GPU-hours that jobs have used, all runs."""
    used = [b.gpu_hours_effective + b.gpu_hours_discarded + b.gpu_hours_open + b.gpu_hours_idle for b in facts.budgets]
    return sum(used) if used else None


def window_words(facts: SiteFacts) -> str:
    """Whether jobs may start, and until when that holds."""
    words = "jobs may start" if facts.may_start else "no job starts"
    if facts.next_change is StartChange.NONE:
        return words
    why = {StartChange.HOURS: "hours", StartChange.MAINTENANCE: "maintenance", StartChange.BUDGET: "budget"}
    reason = f"{'until' if facts.may_start else 'because of'} {why[facts.next_change]}"
    hours = facts.next_change_seconds / 3600
    return f"{words} {reason}" + (f", {hours:.1f} hours from then" if facts.next_change_seconds else "")


def facts_figures(seen: SiteSeen | None, now: float) -> Figures | None:
    """The figures of a site's page; None where the site said nothing."""
    facts = facts_of(seen)
    if facts is None:
        return None
    days = certificate_days(facts, now)
    tone = "bad" if days is not None and days < WARN_CERTIFICATE_DAYS else ""
    versions = f"Python {facts.python or 'unknown'}" + (f", torch {facts.torch}" if facts.torch else "")
    return Figures(
        title="What the site says about itself",
        items=(
            Figure(title="Centre's profile", value=facts.profile or None),
            Figure(title="Hardware of a job", value=hardware(facts)),
            Figure(title="Versions", value=versions),
            Figure(title="Jobs through", value=facts.launcher or None),
            Figure(title="Courier", value=facts.courier or None),
            Figure(title="Certificate, days left", value=_whole_days(days), kind=Kind.COUNT, tone=tone),
            Figure(title="Wait in the queue", value=_known(facts.queue_wait_seconds), kind=Kind.SECONDS),
            Figure(title="Waits now for", value=_known(facts.waiting_seconds), kind=Kind.SECONDS),
            Figure(title="Hours and windows", value=window_words(facts)),
        ),
    )


def budget_table(seen: SiteSeen | None) -> Table:
    """What each run has cost the site, and may cost."""
    facts = facts_of(seen)
    rows = [
        {
            "run": Link(text=b.run, href=f"/run/{b.run}"),
            "effective": b.gpu_hours_effective,
            "discarded": b.gpu_hours_discarded,
            "idle": b.gpu_hours_idle,
            "open": b.gpu_hours_open,
            "limit": b.gpu_hours_limit or None,
            "share": b.gpu_hours_counted / b.gpu_hours_limit if b.gpu_hours_limit else None,
            "forecast": b.forecast_gpu_hours if b.forecast_gpu_hours >= 0 else None,
            "native": b.native_spent if b.native_unit else None,
            "native_limit": (b.native_limit or None) if b.native_unit else None,
            "unit": b.native_unit or None,
        }
        for b in (facts.budgets if facts else ())
    ]
    return Table(
        id="budgets",
        title="GPU-hours and budgets",
        columns=columns(
            ("run", "Run"),
            ("effective", "Effective", Kind.NUMBER, "GPU-hours of training that is in the model"),
            ("discarded", "Discarded", Kind.NUMBER, "GPU-hours of training that is not"),
            ("idle", "Idle", Kind.NUMBER, "GPU-hours of jobs that did not train"),
            ("open", "Not decided", Kind.NUMBER, "GPU-hours of training that no verdict was given on yet"),
            ("limit", "Limit", Kind.NUMBER, "GPU-hours that the site gives this run"),
            ("share", "Of the limit", Kind.RATIO, "Live jobs count with all that they may still use"),
            ("forecast", "Still needed", Kind.NUMBER, "GPU-hours that the remaining rounds will probably need"),
            ("native", "In the centre's unit", Kind.NUMBER),
            ("native_limit", "Limit in it", Kind.NUMBER),
            ("unit", "Unit"),
        ),
        rows=tuple(rows),
        empty="It has reported no cost.",
    )


def tokens_by_language(observations: Observations, run: str) -> dict[str, int]:
    """Tokens of a run that sites' jobs have trained on, per language code; without those that nobody counts."""
    found: dict[str, int] = {}
    for seen in observations.sites.values():
        facts = facts_of(seen)
        for entry in facts.language_tokens if facts else ():
            if entry.run == run:
                found[entry.language] = found.get(entry.language, 0) + entry.tokens
    return found


def _known(seconds: int) -> int | None:
    return seconds if seconds >= 0 else None
