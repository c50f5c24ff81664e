# SPDX-License-Identifier: Apache-2.0
"""Bits per byte: macro-average first → now, the worst languages, and all of them. No score is made up for another."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from coordinator.cli.picture.words import Document, figure
from federation.cli.lines import clip, wrapped
from federation.durations import count

NUM_WORST: Final = 5
_HEAD: Final = "bits per byte"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of the first and of the newest model that was scored and is not reverted; the two may be one.

    Attributes:
        first, now: per language bits per byte, over all sites that have it, each by its held-out bytes.
        num_sites: that have scored the newest one.
    """

    first_commits: int
    first: Mapping[str, float]
    now_commits: int
    now: Mapping[str, float]
    num_sites: int

    @property
    def both(self) -> list[str]:
        """Languages that can be compared."""
        return sorted(self.first.keys() & self.now.keys())


def scores_of(document: Document) -> Scores | None:
    """What there is to compare; None without any score."""
    sums: dict[int, dict[str, tuple[float, float]]] = {}
    sites: dict[int, set[str]] = {}
    for found in document["evaluations"]:
        if not found["bits_per_byte"] or found["commits"] > document["commits"]:
            continue
        sites.setdefault(found["commits"], set()).add(found["site"])
        languages = sums.setdefault(found["commits"], {})
        for language, score in found["bits_per_byte"].items():
            if not isfinite(score):
                continue
            weight = float(found.get("num_bytes", {}).get(language) or 1)
            total, weights = languages.get(language, (0.0, 0.0))
            languages[language] = total + weight * score, weights + weight
    if not sums:
        return None
    first, now = min(sums), max(sums)
    mean = {n: {lang: total / weight for lang, (total, weight) in sums[n].items()} for n in (first, now)}
    return Scores(first_commits=first, first=mean[first], now_commits=now, now=mean[now], num_sites=len(sites[now]))


def summary_lines(document: Document, found: Scores, width: int) -> list[Text]:
    """Macro-average, worst languages, and what became worse."""
    both, members = found.both, len(document["sites"])
    lines = []
    if both:
        by = "" if found.num_sites >= members else f"; {found.num_sites} of {count(members, 'site')} scored it"
        lines += wrapped(f"{_HEAD} {_mean_change(found, both)}{by}", width, indent=2, style="bold")
    worst = sorted(found.now, key=lambda lang: -found.now[lang])[:NUM_WORST]
    if len(found.now) > 1:
        lines += wrapped(f"worst: {', '.join(_change(found, lang) for lang in worst)}", width, indent=2)
    worse = sorted((lang for lang in both if found.now[lang] > found.first[lang]), key=lambda lang: _gain(found, lang))
    if worse:
        rest = f" and {len(worse) - NUM_WORST} more" if len(worse) > NUM_WORST else ""
        words = ", ".join(_change(found, lang) for lang in worse[:NUM_WORST])
        lines += wrapped(f"WORSE than at first: {words}{rest}", width, indent=2, style="red")
    return lines


def _mean_change(found: Scores, both: list[str]) -> str:
    """The mean over languages that both models have, each language counting alike."""
    before, after = (fmean(side[lang] for lang in both) for side in (found.first, found.now))
    over = f"mean of {count(len(both), 'language')}"
    if found.first_commits == found.now_commits:
        return f"{figure(after)}, {over}, at commit {found.now_commits}"
    percent = f" ({100 * (after - before) / before:+.1f} %)" if before > 0 else ""
    commits = f"commit {found.first_commits} → {found.now_commits}"
    return f"{figure(before)} → {figure(after)}{percent}, {over}, {commits}"


def _gain(found: Scores, language: str) -> float:
    return found.first[language] - found.now[language]


def _change(found: Scores, language: str) -> str:
    before = figure(found.first[language], 2) if language in found.first else "n/a"
    now = figure(found.now[language], 2)
    change = now if found.first_commits == found.now_commits else f"{before}→{now}"
    return f"{clip(language, 8)} {change}"


def table_lines(found: Scores, width: int) -> list[Text]:
    """Every language, in as many blocks as the width asks for; a score that is still to come is blank."""
    names = {n: f"at commit {n}" for n in (found.first_commits, found.now_commits)}
    left = max(map(len, (_HEAD, *names.values())))
    languages = sorted(found.first.keys() | found.now.keys())
    cells = [_cells(found, lang) for lang in languages]
    lines: list[Text] = []
    while languages:
        fitting = max(1, _fitting(cells, width - left))
        block, sizes = languages[:fitting], cells[:fitting]
        lines.append(Text(_row(_HEAD, left, [clip(lang, 8) for lang in block], sizes), style="bold"))
        for commits, label in names.items():
            side = found.first if commits == found.first_commits else found.now
            texts = [figure(side[lang], 2) if lang in side else "" for lang in block]
            lines.append(Text(_row(label, left, texts, sizes)))
        languages, cells = languages[fitting:], cells[fitting:]
    return lines


def _cells(found: Scores, language: str) -> int:
    """Of its column, with a gap."""
    scores = [figure(side.get(language), 2) for side in (found.first, found.now)]
    return max(5, *(cell_len(text) for text in (clip(language, 8), *scores))) + 1


def _fitting(cells: list[int], room: int) -> int:
    """How many of them fit beside each other."""
    used = 0
    for index, width in enumerate(cells):
        used += width
        if used > room:
            return index
    return len(cells)


def _row(label: str, left: int, texts: list[str], sizes: list[int]) -> str:
    return label.ljust(left) + "".join(text.rjust(size) for text, size in zip(texts, sizes, strict=True)).rstrip()
