# SPDX-License-Identifier: Apache-2.0
"""What every page is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from coordinator.dashboard.follower import View
from coordinator.dashboard.liveness import Liveness
from coordinator.dashboard.page import Notice
from coordinator.notices.memory import Told
from coordinator.notices.notice import Kind, Severity, key_of
from coordinator.notices.text import sentences
from federation.durable import FileSystem
from federation.errors import UsageError
from federation.ledger_state import Run, RunState

ROWS: Final = 50
"""Rows of a long table on one page."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request: what there is to see, when, by whom, and the query.

    Attributes:
        now: unix seconds.
        auditor: whether the viewer may see an auditor's pages.
        fs: of the coordinator's directory, for the few pages that read documents.
        public: fields of the public page, as coordinator.toml names them.
        told: what is the case and somebody should know.
        whole: for an export: tables have all of their rows, not only the newest.
    """

    view: View
    liveness: Liveness
    now: float
    fs: FileSystem
    auditor: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    public: tuple[str, ...] = ()
    told: tuple[Told, ...] = ()
    whole: bool = False

    def newest(self, rows: int) -> int | None:
        """How many of a table's rows are wanted, where a page shows so many; None for all."""
        return None if self.whole else rows

    def run(self, name: str) -> Run:
        """The run of that name. Raises UsageError."""
        found = self.view.state.runs.get(name)
        if found is None:
            known = ", ".join(sorted(self.view.state.runs)) or "none"
            raise UsageError(f"run {name!r:.60}: no run of that name; known runs: {known}")
        return found

    def usual_run(self) -> str:
        """The running run that was created last, else the one that was created last; "" if there is none."""
        runs = self.view.state.runs.values()
        return max(runs, key=lambda run: (run.state is RunState.RUNNING, run.created_leaf)).id if runs else ""

    def number(self, key: str = "page") -> int:
        """A whole number of the query, 0 where it is none."""
        text = self.query.get(key, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0

    def attention(self, run: str = "", site: str = "") -> tuple[Notice, ...]:
        """What somebody should look at: all of it, or what concerns a run or a site."""
        notices = [told.notice for told in self.told if self.liveness.works or told.notice.key != _AWAY]
        chosen = [n for n in notices if (not run or n.subject_run == run) and (not site or n.subject_site == site)]
        return tuple(
            Notice(tone=_TONES[n.severity], text=_capital(sentences(n.what, n.why)), advice=n.advice) for n in chosen
        )

    def faults(self) -> tuple[Notice, ...]:
        """What is wrong with what is shown, on every page."""
        found = [Notice(tone="bad", text=fault, advice=_ADVICE) for fault in self.view.faults]
        if not self.liveness.works:
            text = f"{_capital(self.liveness.sentence)}: this is what was known last."
            found.insert(0, Notice(tone="bad", text=text, advice=_START))
        return tuple(found)


_TONES: Final = {Severity.CRITICAL: "bad", Severity.WARNING: "warn", Severity.INFO: ""}
_AWAY: Final = key_of(Kind.COORDINATOR_AWAY)
_START: Final = "Start it again with `coordinator serve`; what was acknowledged is kept."
_ADVICE: Final = "`federation verify` on the coordinator's directory lists all damage."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
