# SPDX-License-Identifier: Apache-2.0
"""Does each language get better? One row a language, always in the same order; n/a is not 0."""

from collections.abc import Mapping
from typing import Any

from coordinator.dashboard.charts import Chart, Series
from coordinator.dashboard.page import Figure, Figures, Links, Notice, Page
from coordinator.dashboard.pages.request import Asked
from coordinator.dashboard.pages.site_facts import tokens_by_language
from coordinator.dashboard.pages.tasks import task_table
from coordinator.dashboard.scores import Score, Scores, macro_average
from coordinator.dashboard.tables import Kind, Link, Table, columns
from federation.languages import ORDER, SETS, Group, Language, find, sort_key
from federation.ledger_state import Run

NUM_DISAGREEMENTS = 5
NUM_ROUNDS = 12
"""Newest evaluated models beside each other."""

_OF_TOKENS = "Counted by the sites' jobs, with windows not yet done or admitted; n/a where no trainer can tell"


def languages_page(asked: Asked) -> Page:
    """The languages of one run: the one asked for, else the one that trains. Raises UsageError: no such run."""
    runs = asked.view.state.runs
    name = asked.query.get("run", "") or asked.usual_run()
    if not name:
        empty = Table(id="languages", title="Languages", columns=(), rows=(), empty="No run yet: nothing was scored.")
        return Page(title="Languages", path="/languages", nav="languages", notices=asked.faults(), sections=(empty,))
    run = asked.run(name)
    scores = asked.view.history.scores.of(run)
    codes = _codes(scores)
    others = tuple(Link(text=other, href=f"/languages?run={other}") for other in sorted(runs) if other != run.id)
    return Page(
        title=f"Languages of {run.id}",
        path="/languages",
        nav="languages",
        query={"run": run.id},
        trail=(Link(text=f"Run {run.id}", href=f"/run/{run.id}"),),
        notices=(*asked.faults(), *_unknown(scores), *_disagreements(asked, run)),
        sections=(
            _figures(scores, codes),
            *((Links(title="Other runs", items=others),) if others else ()),
            _table(scores, codes, tokens_by_language(asked.view.observations, run.id)),
            _chart(scores, codes),
            task_table(run),
            _by_round(scores, codes),
        ),
    )


def _codes(scores: Scores) -> dict[str, str]:
    """Every language of the table, and those that only the sites know, in order: key -> code in the scores, "" if none.

    Two codes of one language in one run stay two rows: what was measured apart is not mixed.
    """
    by_language: dict[str, list[str]] = {}
    for code in sorted(scores.languages, key=sort_key):
        language = find(code)
        by_language.setdefault(language.code if language else code, []).append(code)
    rows: dict[str, str] = {}
    for language in ORDER:
        for number, code in enumerate(by_language.pop(language.code, [""])):
            rows[language.code if number == 0 else f"{language.code} ({code})"] = code
    for key, codes in by_language.items():
        rows[key] = codes[0]
    return rows


def _figures(scores: Scores, codes: dict[str, str]) -> Figures:
    settled = scores.settled
    newest = settled[-1] if settled else None
    found = scores.by_commits.get(newest, {}) if newest is not None else {}
    worst = max(found, key=lambda code: found[code].mean, default="")
    items = [
        Figure(title="Newest model scored", value=newest, kind=Kind.COUNT, hint="Commits in it"),
        *([_half_scored(scores, len(found))] if settled != scores.commits else []),
        Figure(title="Languages scored", value=f"{len(found)} of {len(codes)}"),
        Figure(title="Worst language", value=f"{_label(worst)}: {found[worst].mean:.3f}" if worst else None),
    ]
    for name, languages in SETS.items():
        wanted = [_code_of(language, found) for language in languages]
        value = macro_average(found, wanted)
        missing = sum(code not in found for code in wanted)
        hint = f"{missing} of its {len(wanted)} languages have no score" if missing else "bits per byte"
        items.append(Figure(title=f"Mean over {name}", value=value, kind=Kind.NUMBER, hint=hint))
    if found:
        mean = macro_average(found, found)
        items.append(Figure(title=f"Mean over the {len(found)} scored", value=mean, kind=Kind.NUMBER))
    return Figures(items=tuple(items))


def _half_scored(scores: Scores, num_languages: int) -> Figure:
    newest = scores.commits[-1]
    so_far = f"{len(scores.by_commits[newest])} of {num_languages} languages so far, or not by all sites"
    return Figure(title="Being scored", value=f"commit {newest}", hint=f"{so_far}; counts here once it is whole")


def _code_of(language: Language, scores: Mapping[str, Score]) -> str:
    return next((code for code in scores if find(code) is language), "")


def _label(code: str) -> str:
    language = find(code)
    return language.english_name if language else f"{code} (unknown code)"


def _unknown(scores: Scores) -> list[Notice]:
    unknown = sorted(code for code in scores.languages if find(code) is None)
    if not unknown:
        return []
    return [Notice(tone="warn", text=f"Sites scored languages that nobody here knows: {', '.join(unknown[:20])}.")]


def _disagreements(asked: Asked, run: Run) -> list[Notice]:
    """Sites that say different things about the same model."""
    found = asked.view.history.disagreements(run)
    notices = [Notice(tone="warn", text=f"Sites disagree: {sentence}") for sentence in found[:NUM_DISAGREEMENTS]]
    if len(found) > NUM_DISAGREEMENTS:
        more = f"Sites disagree in {len(found) - NUM_DISAGREEMENTS} further cases: `coordinator run show --json`."
        notices.append(Notice(tone="warn", text=more))
    return notices


def _table(scores: Scores, codes: dict[str, str], tokens: Mapping[str, int]) -> Table:
    rows = [{**_row(scores, key, code), "tokens": _tokens(key, code, tokens)} for key, code in codes.items()]
    return Table(
        id="languages",
        title="Bits per byte, the lower the better",
        columns=columns(
            ("language", "Language"),
            ("code", "Code", Kind.TEXT, "ISO 639-3 and script"),
            ("group", "Group"),
            ("first", "First", Kind.NUMBER, "Of the first model that was scored"),
            ("before", "Before", Kind.NUMBER, "Of the model before the newest one"),
            ("now", "Now", Kind.NUMBER, "Of the newest model, mean over the sites"),
            ("change", "Change", Kind.NUMBER, "From before to now; below 0 is better"),
            ("verdict", "In words"),
            ("low", "Lowest site", Kind.NUMBER),
            ("high", "Highest site", Kind.NUMBER),
            ("sites", "Sites", Kind.COUNT, "That scored it"),
            ("tokens", "Tokens seen", Kind.COUNT, _OF_TOKENS),
            ("commits", "At commit", Kind.COUNT),
        ),
        rows=tuple(rows),
        note="n/a: nobody has scored it. That is not 0.",
    )


def _tokens(key: str, code: str, tokens: Mapping[str, int]) -> int | None:
    """Of all codes that mean the row's language; a second row of one language has those of its own code alone."""
    language = find(code or key)
    is_second = language is not None and key != language.code
    found = [n for c, n in tokens.items() if (c == code if is_second or language is None else find(c) is language)]
    return sum(found) if found else None


def _row(scores: Scores, key: str, code: str) -> dict[str, Any]:
    language = find(code or key)
    newest, before, first = scores.newest(code), scores.newest(code, back=1), scores.first(code)
    now = newest[1] if newest else None
    change = now.mean - before[1].mean if now and before else None
    return {
        "language": f"{language.english_name} · {language.own_name}" if language else "unknown",
        "code": key,
        "group": {Group.OFFICIAL: "official", Group.ACCESSION: "accession"}.get(language.group, "other")
        if language
        else "unknown",
        "first": first[1].mean if first else None,
        "before": before[1].mean if before else None,
        "now": now.mean if now else None,
        "change": change,
        "verdict": None if change is None else "better" if change < 0 else "worse" if change > 0 else "the same",
        "low": now.low if now else None,
        "high": now.high if now else None,
        "sites": now.num_sites if now else None,
        "commits": newest[0] if newest else None,
    }


def _chart(scores: Scores, codes: dict[str, str]) -> Chart:
    def build(last: int | None) -> tuple[Series, ...]:
        chosen = scores.commits[-last:] if last else scores.commits
        xs = [float(commits) for commits in chosen]
        return tuple(
            Series(name=key, x=xs, y=[s.mean if (s := scores.of(c, code)) else None for c in chosen])
            for key, code in codes.items()
            if code
        )

    return Chart(
        id="by-language",
        title="Bits per byte by language",
        x_title="Commits",
        y_title="Bits per byte",
        build=build,
        has_values=any(codes.values()),
        empty="No model of this run was evaluated yet.",
    )


def _by_round(scores: Scores, codes: dict[str, str]) -> Table:
    """Each language before and after: one column per evaluated model."""
    newest = scores.commits[-NUM_ROUNDS:]
    rows = [
        {"code": key, **{f"c{c}": s.mean if (s := scores.of(c, code)) else None for c in newest}}
        for key, code in codes.items()
        if code
    ]
    return Table(
        id="by-round",
        title=f"The newest {len(newest)} evaluated models",
        columns=columns(("code", "Code"), *((f"c{c}", f"{c} commits", Kind.NUMBER) for c in newest)),
        rows=tuple(rows),
        empty="No model of this run was evaluated yet.",
    )
