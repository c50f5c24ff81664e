# SPDX-License-Identifier: Apache-2.0
"""What a check of `doctor` gets and gives. A check is a function from a `Case` to an `Answer`."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from federation.durable.real import RealFileSystem
from federation.errors import FederationError
from federation.rpc.status import Greeting
from site_agent.courier.choice import CourierKind, read_choice
from site_agent.site_config import SiteConfig


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line: what was found, and what to do about it, "" if nothing."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is looked at.

    Attributes:
        now: this machine's clock, seconds since 1970.
        probed: what the coordinator answered over gRPC, or why it did not; None if this site does not dial out.
    """

    directory: Path
    fs: RealFileSystem
    config: SiteConfig | None
    now: float
    probed: Greeting | FederationError | None

    @property
    def uses_grpc(self) -> bool:
        """Whether the site dials out."""
        return read_choice(self.fs) is CourierKind.GRPC


Answer = tuple[Verdict, str, str]
"""Verdict, what was found, what to do."""

Check = Callable[[Case], Answer]

NEEDS_CONFIGURATION: Answer = (Verdict.SKIPPED, "needs a readable configuration", "")


def finding(name: str, check: Check, case: Case) -> Finding:
    """The check's answer; an expected error is a failure that says what to do."""
    try:
        verdict, found, advice = check(case)
    except FederationError as error:
        verdict, found, advice = Verdict.FAILED, str(error), error.advice
    except OSError as error:
        words = error.strerror or os.strerror(error.errno or 0)
        verdict, found, advice = Verdict.FAILED, f"{error.filename}: {words}", ""
    return Finding(check=name, verdict=verdict, found=found, advice=advice)
