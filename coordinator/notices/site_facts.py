# SPDX-License-Identifier: Apache-2.0
"""What a site's report says of its certificate and budgets, if it says anything: older agents do not. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

from federation.messages import SiteStatus


@dataclass(frozen=True, kw_only=True)
class BudgetLine:
    """What a site has spent of what it may spend on one run; a limit of 0 means that there is none."""

    run: str
    gpu_hours: float
    gpu_hours_limit: float
    native_unit: str
    native_spent: float
    native_limit: float

    @property
    def percent(self) -> float:
        """The larger share of the two limits; 0.0 without one."""
        shares = ((self.gpu_hours, self.gpu_hours_limit), (self.native_spent, self.native_limit))
        return max((100.0 * spent / limit for spent, limit in shares if limit > 0), default=0.0)

    def sentence(self) -> str:
        """The figures, for people."""
        parts = []
        if self.gpu_hours_limit > 0:
            parts.append(f"{self.gpu_hours:.0f} of {self.gpu_hours_limit:.0f} GPU-hours")
        if self.native_limit > 0:
            parts.append(f"{self.native_spent:.0f} of {self.native_limit:.0f} {self.native_unit}")
        return " and ".join(parts)


def certificate_not_after_us(status: SiteStatus) -> int:
    """When the site's channel certificate expires, microseconds since 1970; 0 if it does not say."""
    facts = getattr(status, "facts", None)
    found = getattr(facts, "certificate_not_after_us", 0)
    return found if isinstance(found, int) and found > 0 else 0


def budgets(status: SiteStatus) -> Iterator[BudgetLine]:
    """What the site says of its budgets, by run."""
    facts: Any = getattr(status, "facts", None)
    for entry in getattr(facts, "budgets", ()) or ():
        unit = str(getattr(entry, "native_unit", ""))  # without one nothing is known of its price
        yield BudgetLine(
            run=str(getattr(entry, "run", "")),
            gpu_hours=sum(_number(entry, f"gpu_hours_{part}") for part in ("effective", "discarded", "open", "idle")),
            gpu_hours_limit=_number(entry, "gpu_hours_limit"),
            native_unit=unit,
            native_spent=_number(entry, "native_spent"),
            native_limit=_number(entry, "native_limit") if unit else 0.0,
        )


def _number(entry: object, name: str) -> float:
    """A finite number that is not negative; 0.0 for anything else."""
    value = getattr(entry, name, 0.0)
    return float(value) if isinstance(value, int | float) and isfinite(value) and value > 0 else 0.0
