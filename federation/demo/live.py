# SPDX-License-Identifier: Apache-2.0
"""What the demo shows while it trains: rounds, each site's state and step, bits per byte, bytes, seconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from federation.demo.settings import DemoSettings

Document = dict[str, Any]
LANGUAGES_A_ROW: Final = 9
LINE_EVERY_SECONDS: Final = 10.0


class View:
    """Renders a run's document; in a terminal live, elsewhere a line whenever a round ends."""

    def __init__(self, settings: DemoSettings, languages: dict[str, tuple[str, ...]], console: Console) -> None:
        self._settings, self._languages, self._console = settings, languages, console
        self._began = time.monotonic()
        self._live: Live | None = None
        self._commits = -1

    @contextmanager
    def showing(self) -> Iterator["View"]:
        """Live while the block runs."""
        if not self._console.is_terminal:
            yield self
            return
        with Live(console=self._console, refresh_per_second=4) as live:
            self._live = live
            yield self
        self._live = None

    def update(self, document: Document) -> None:
        """Shows the newest document."""
        if self._live is not None:
            self._live.update(self.render(document))
        elif document["commits"] != self._commits:
            self._commits = document["commits"]
            self._console.print(self._line(document))

    def _line(self, document: Document) -> str:
        mean = _mean(newest_scores(document))
        scored = f", {mean:.3f} bits per byte" if mean else ""
        seconds = time.monotonic() - self._began
        moved = document["bytes"]["up"] + document["bytes"]["down"]
        return f"  {document['commits']}/{document['rounds']} rounds, {moved / 1e6:.1f} MB, {seconds:.0f} s{scored}"

    def render(self, document: Document) -> Group:
        """Everything at once, for 80 columns."""
        done, planned = document["commits"], document["rounds"]
        head = Text(f"{done} of {planned} rounds committed", style="bold")
        bar = ProgressBar(total=planned, completed=done, width=60)
        parts: list[Any] = [head, bar, self._sites(document)]
        scores = newest_scores(document)
        if scores:
            parts += [Text("bits per byte of the shared model"), self._scores(scores)]
        parts.append(Text(self._line(document).strip(), style="dim"))
        return Group(*parts)

    def _sites(self, document: Document) -> Table:
        table = Table(box=None)
        for name in ("site", "languages", "state", "round", "step", "loss"):
            table.add_column(name)
        for site, now in document["sites_now"].items():
            state = now["phase"] if now["allocation"] == "ready" else f"job {now['allocation']}"
            loss = f"{now['loss']:.2f}" if now["loss"] else ""
            number = "" if now["round"] is None else str(now["round"])
            table.add_row(site, " ".join(self._languages[site]), state, number, str(now["step"]), loss)
        return table

    def _scores(self, scores: dict[str, float]) -> Table:
        table = Table(box=None, show_header=False)
        cells = [f"{language} {score:.2f}" for language, score in sorted(scores.items())]
        for start in range(0, len(cells), LANGUAGES_A_ROW):
            table.add_row(*cells[start : start + LANGUAGES_A_ROW])
        return table


def newest_scores(document: Document) -> dict[str, float]:
    """Per language the newest score that any site signed."""
    newest: dict[str, tuple[int, float]] = {}
    for evaluation in document["evaluations"]:
        for language, score in evaluation["bits_per_byte"].items():
            if evaluation["commits"] >= newest.get(language, (-1, 0.0))[0]:
                newest[language] = (evaluation["commits"], score)
    return {language: score for language, (_, score) in newest.items()}


def _mean(scores: dict[str, float]) -> float:
    return sum(scores.values()) / len(scores) if scores else 0.0
