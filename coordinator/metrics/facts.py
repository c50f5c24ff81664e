# SPDX-License-Identifier: Apache-2.0
"""What a site says of its certificate, queue and budgets, checked: it comes from another party. Pure.

It travels as `SiteStatus.facts`. An agent of an earlier release sends none, and then there is nothing to show: each
field is looked for by its name, and one that is missing, of another type, negative or no number is left out. There a
limit of 0 stands for none, and so does an empty unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from federation.exposition import foreign
from federation.messages import LanguageTokens, SiteStatus

HOUR_SECONDS: Final = 3600.0
MAX_BUDGETS: Final = 1000
MAX_LANGUAGES: Final = 2000


@dataclass(frozen=True, kw_only=True)
class BudgetFacts:
    """One run's budget at a site, in GPU-seconds; None where the site does not say.

    Attributes:
        limit_seconds: that the site allows the run, None for no limit.
        native_unit: name of the centre's own unit, in which `native_spent` and `native_limit` are.
    """

    run: str
    effective_seconds: float | None
    discarded_seconds: float | None
    open_seconds: float | None
    idle_seconds: float | None
    limit_seconds: float | None
    forecast_seconds: float | None
    native_unit: str
    native_spent: float | None
    native_limit: float | None

    @property
    def ratio(self) -> float | None:
        """The spent part of the tightest limit; None where nothing limits."""
        parts = (self.effective_seconds, self.discarded_seconds, self.open_seconds, self.idle_seconds)
        spent = sum(part for part in parts if part is not None)
        limits = ((spent, self.limit_seconds), (self.native_spent, self.native_limit))
        return max((used / limit for used, limit in limits if used is not None and limit), default=None)


@dataclass(frozen=True, kw_only=True)
class SiteFacts:
    """Facts of one site; None where it does not say. Of each run, and each language of it, there is one at most."""

    certificate_expires_at: float | None = None
    queue_wait_seconds: float | None = None
    budgets: tuple[BudgetFacts, ...] = ()
    language_tokens: tuple[LanguageTokens, ...] = ()


def facts_of(status: SiteStatus) -> SiteFacts:
    """The facts in a report; all empty where it has none."""
    found = getattr(status, "facts", None)
    if found is None:
        return SiteFacts()
    not_after_us = _number(found, "certificate_not_after_us")
    return SiteFacts(
        certificate_expires_at=not_after_us / 1e6 if not_after_us else None,
        queue_wait_seconds=_number(found, "queue_wait_seconds"),
        budgets=tuple(_budgets(found)),
        language_tokens=tuple(_language_tokens(found)),
    )


def _budgets(found: Any) -> Iterator[BudgetFacts]:
    budgets, named = getattr(found, "budgets", None), set[str]()
    for budget in budgets[:MAX_BUDGETS] if isinstance(budgets, tuple | list) else ():
        if (run := str(getattr(budget, "run", ""))) in named:
            continue
        named.add(run)
        unit = foreign(str(getattr(budget, "native_unit", "")))
        yield BudgetFacts(
            run=run,
            effective_seconds=_seconds(budget, "gpu_hours_effective"),
            discarded_seconds=_seconds(budget, "gpu_hours_discarded"),
            open_seconds=_seconds(budget, "gpu_hours_open"),
            idle_seconds=_seconds(budget, "gpu_hours_idle"),
            limit_seconds=_seconds(budget, "gpu_hours_limit") or None,
            forecast_seconds=_seconds(budget, "forecast_gpu_hours"),
            native_unit=unit,
            native_spent=_number(budget, "native_spent") if unit else None,
            native_limit=(_number(budget, "native_limit") or None) if unit else None,
        )


def _language_tokens(found: Any) -> Iterator[LanguageTokens]:
    told, named = getattr(found, "language_tokens", None), set[tuple[str, str]]()
    for entry in told[:MAX_LANGUAGES] if isinstance(told, tuple | list) else ():
        run, language = str(getattr(entry, "run", "")), foreign(str(getattr(entry, "language", "")))
        tokens = _number(entry, "tokens")
        if tokens is not None and (run, language) not in named:
            named.add((run, language))
            yield LanguageTokens(run=run, language=language, tokens=int(tokens))


def _seconds(found: Any, name: str) -> float | None:
    hours = _number(found, name)
    return None if hours is None else hours * HOUR_SECONDS


def _number(found: Any, name: str) -> float | None:
    value = getattr(found, name, None)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        return None
    return float(value)
