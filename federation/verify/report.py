# SPDX-License-Identifier: Apache-2.0
"""What an audit found: differences, gaps, notes and counts by check, and the verdict that follows from them."""

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Final

MAX_LISTED: Final = 1000
"""Differences, gaps and notes that are kept in full; of further ones only the number is known."""

_MAX_SHOWN_CHARS: Final = 300


class Check(IntEnum):
    """The numbered checks of `federation.verify`."""

    ROSTERS = 1
    LEDGER = 2
    CHECKPOINT = 3
    KEPT = 4
    COSIGNATURES = 5
    LEAVES = 6
    RUNS = 7
    COMMANDS = 8
    BLOBS = 9
    OPENINGS = 10
    UPDATES = 11
    VERDICTS = 12
    ENDS = 13
    COMMITS = 14
    EVALUATIONS = 15
    WITNESSES = 16
    STATE = 17


TITLES: Final = {
    Check.ROSTERS: "rosters",
    Check.LEDGER: "ledger files and tree",
    Check.CHECKPOINT: "checkpoint signature",
    Check.KEPT: "kept checkpoints",
    Check.COSIGNATURES: "stored cosignatures",
    Check.LEAVES: "leaves known and in order",
    Check.RUNS: "manifests and plans",
    Check.COMMANDS: "operators' commands",
    Check.BLOBS: "blobs",
    Check.OPENINGS: "openings and invitations",
    Check.UPDATES: "signed updates",
    Check.VERDICTS: "verdicts re-decided",
    Check.ENDS: "seals, abandonments and ends re-decided",
    Check.COMMITS: "commits recomputed",
    Check.EVALUATIONS: "evaluations",
    Check.WITNESSES: "witness rule",
    Check.STATE: "stored state",
}


class Verdict(StrEnum):
    """What an audit ends with."""

    TRUE = "TRUE"
    """Everything that the ledger says follows from the evidence, under an anchor from outside."""

    FALSE = "FALSE"
    """At least one difference."""

    INCOMPLETE = "INCOMPLETE"
    """No difference, but not everything could be looked at."""

    UNANCHORED = "UNANCHORED"
    """No difference, but nothing from outside the directory was compared with it."""


EXIT_CODES: Final = {Verdict.TRUE: 0, Verdict.FALSE: 1, Verdict.INCOMPLETE: 3, Verdict.UNANCHORED: 3}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in the ledger something is said; -1 and "" where that does not apply."""

    leaf: int = -1
    run: str = ""
    round: int = -1

    def __str__(self) -> str:
        parts = [f"leaf {self.leaf}"] if self.leaf >= 0 else []
        parts += [f"run {self.run}"] if self.run else []
        parts += [f"round {self.round}"] if self.round >= 0 else []
        return ", ".join(parts)


NOWHERE: Final = Place()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that is not as it must be."""

    check: Check
    place: Place
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        where = f"{self.place}: " if str(self.place) else ""
        return f"{where}{self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that could not be looked at."""

    check: Check
    place: Place
    sentence: str

    def __str__(self) -> str:
        where = f"{self.place}: " if str(self.place) else ""
        return f"{where}{self.sentence}"


@dataclass(kw_only=True)
class Findings:
    """Collects what the checks find. Lists are bounded; numbers are not."""

    differences: list[Difference] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passed: Counter[Check] = field(default_factory=Counter)
    failed: Counter[Check] = field(default_factory=Counter)
    skipped: Counter[Check] = field(default_factory=Counter)

    def agree(self, check: Check, count: int = 1) -> None:
        """Counts things that are as they must be."""
        self.passed[check] += count

    def differ(self, check: Check, place: Place, what: str, expected: object, found: object) -> None:
        """Records a difference."""
        self.failed[check] += 1
        if len(self.differences) < MAX_LISTED:
            difference = Difference(
                check=check, place=place, what=shown(what), expected=shown(expected), found=shown(found)
            )
            self.differences.append(difference)

    def compare(self, check: Check, place: Place, what: str, expected: object, found: object) -> bool:
        """Records a difference unless both are equal; counts nothing otherwise. Returns whether they are."""
        if expected != found:
            self.differ(check, place, what, expected, found)
        return expected == found

    def skip(self, check: Check, place: Place, sentence: str) -> None:
        """Records that something could not be looked at."""
        self.skipped[check] += 1
        if len(self.gaps) < MAX_LISTED:
            self.gaps.append(Gap(check=check, place=place, sentence=shown(sentence)))

    def note(self, sentence: str) -> None:
        """Records something worth knowing that speaks neither for nor against the directory."""
        if len(self.notes) < MAX_LISTED:
            self.notes.append(shown(sentence))

    def num_failed(self) -> int:
        """All differences so far, listed or not."""
        return sum(self.failed.values())


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """What from outside the directory it was compared with.

    Attributes:
        root: fingerprint given, "" if none was.
        root_found: fingerprint of the root of the directory's oldest roster, "" if there is none to read.
        checkpoints: sizes of the kept checkpoints that are a prefix of this ledger and cover a leaf of it.
        files: names of the files that were given.
    """

    root: str = ""
    root_found: str = ""
    checkpoints: tuple[int, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def hold(self) -> bool:
        """Whether there is at least one."""
        return bool(self.root or self.checkpoints)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of one audit.

    Attributes:
        size, root_hash, origin: head of the ledger as it was read.
        heads: per run the theta digest of each fragment's current version, as the ledger has it.
        summary: counts of what was looked at ("leaves", "blobs", "rounds recomputed", ...).
    """

    directory: str
    anchors: Anchors
    findings: Findings
    size: int = 0
    root_hash: str = ""
    origin: str = ""
    heads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    summary: dict[str, int] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """FALSE before anything else; then what is missing; then what is not anchored."""
        if self.findings.num_failed():
            return Verdict.FALSE
        if sum(self.findings.skipped.values()):
            return Verdict.INCOMPLETE
        return Verdict.TRUE if self.anchors.hold else Verdict.UNANCHORED

    @property
    def exit_code(self) -> int:
        """0 for TRUE, 1 for FALSE, 3 for INCOMPLETE and UNANCHORED."""
        return EXIT_CODES[self.verdict]


def shown(value: Any) -> str:
    """A value from a directory that may be hostile, as a line may hold it: short, no control characters."""
    text = str(value)
    text = text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 1] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]
