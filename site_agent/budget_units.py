# SPDX-License-Identifier: Apache-2.0
"""The centre's own unit of accounting, and what one job costs in it."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from federation.config import Section
from federation.site_profile import SiteProfile
from site_agent.budget import UNLIMITED_SECONDS, JobSize

GPU_HOURS: Final = "GPU-hours"


class AccountingSection(Section):
    """`[accounting]` of site.toml: what the centre's profile does not know, or knows wrongly.

    `unit`: name of the centre's own unit, "" takes the profile's. `units_per_gpu_hour`: how many of it an hour of one
    GPU costs, as the scheduler counts GPUs; 0 takes the profile's.
    """

    unit: Annotated[str, StringConstraints(max_length=40, pattern=r"^[ -~]*$")] = ""
    units_per_gpu_hour: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True, kw_only=True)
class NativeUnit:
    """The centre's unit. `per_gpu_hour` is None where nobody knows it; `source` says who says so."""

    name: str
    per_gpu_hour: float | None
    source: str

    def of(self, gpu_hours: float) -> float | None:
        """So many GPU-hours in this unit."""
        return None if self.per_gpu_hour is None else gpu_hours * self.per_gpu_hour

    def words(self, gpu_hours: float) -> str:
        """`32 GPU-hours (256 core-hours of the centre)`; GPU-hours alone where the unit's price is not known."""
        native = self.of(gpu_hours)
        return f"{gpu_hours:g} {GPU_HOURS}" + ("" if native is None else f" ({native:g} {self.name} of the centre)")


def native_unit(section: AccountingSection, profile: SiteProfile) -> NativeUnit:
    """The unit as site.toml states it, else as the centre's profile does."""
    name = section.unit or profile.accounting.unit.value
    if section.units_per_gpu_hour:
        return NativeUnit(name=name, per_gpu_hour=section.units_per_gpu_hour, source="site.toml")
    fact = profile.accounting.units_per_gpu_hour
    if fact is None:
        return NativeUnit(name=name, per_gpu_hour=None, source=f"profile {profile.slug} does not say")
    return NativeUnit(name=name, per_gpu_hour=fact.value, source=f"profile {profile.slug}: {fact.source}")


def estimate_words(size: JobSize, unit: NativeUnit, profile: SiteProfile) -> str:
    """What one job can cost, with the arithmetic: what is shown before it is submitted."""
    hours = (size.seconds_limit or UNLIMITED_SECONDS) / 3600
    limit = f"{hours:g} hours of wall time" + ("" if size.seconds_limit else ", as it has no limit")
    counted = profile.node.gpu_unit
    gpu = f" (a GPU here is {counted.value})" if counted is not None and size.num_gpus else ""
    return f"at most {unit.words(size.gpu_hours)}: {size.num_gpus} GPUs{gpu} for {limit}"
