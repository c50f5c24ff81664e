# SPDX-License-Identifier: Apache-2.0
"""Charts of one run."""

from collections.abc import Callable

from coordinator.dashboard.charts import Chart, Series
from coordinator.dashboard.follower import View
from coordinator.dashboard.pages.scores import scores_of
from federation.ledger_state import Run


def overall_chart(run: Run) -> Chart:
    """Mean bits per byte over the languages that every evaluation has, with the best and the worst of them."""
    scores = scores_of(run)
    common = [lang for lang in sorted(scores.languages) if all(scores.of(c, lang) for c in scores.commits)]
    points = [(c, [s.mean for lang in common if (s := scores.of(c, lang)) is not None]) for c in scores.commits]
    points = [(commits, values) for commits, values in points if values]
    xs = [float(commits) for commits, _ in points]
    low, high = [min(values) for _, values in points], [max(values) for _, values in points]
    mean = Series(
        name=f"mean of {len(common)} languages", x=xs, y=[sum(v) / len(v) for _, v in points], band=(low, high)
    )
    return Chart(
        id="bits",
        title="Bits per byte",
        x_title="Commits",
        y_title="Bits per byte",
        series=(mean, Series(name="best language", x=xs, y=low), Series(name="worst language", x=xs, y=high))
        if points
        else (),
        note="Over the languages that every evaluated model was scored in.",
        empty="No model of this run was evaluated yet.",
    )


def loss_chart(run: Run, view: View) -> Chart:
    """Mean training loss per round and site, from step metrics; else the loss that came with its report."""

    def value(number: int, site: str) -> float | None:
        steps = view.losses.of(run.id, site).get(number)
        if steps is not None and steps.mean_loss is not None:
            return steps.mean_loss
        return view.times.of(run.id, number).losses.get(site)

    return Chart(
        id="loss",
        title="Training loss per site",
        x_title="Round",
        y_title="Loss",
        series=per_site_chart(run, value),
        note="Mean over the inner steps that the site reported in the round; telemetry, not evidence.",
        empty="No site has reported a loss yet.",
    )


def per_site_chart(run: Run, value: Callable[[int, str], float | None]) -> tuple[Series, ...]:
    """One line a member over all rounds."""
    numbers = sorted(run.rounds)
    xs = [float(number) for number in numbers]
    return tuple(
        Series(name=member.site, x=xs, y=[value(number, member.site) for number in numbers])
        for member in run.plan.members
    )


def utilisation(run: Run, view: View, now: float) -> float | None:
    """Share of the members' time since the first round in which steps were taken, as far as steps were reported."""
    rounds = view.times.rounds.get(run.id, {})
    first = min((times.opened_us for times in rounds.values()), default=0) / 1e6
    last = max((times.ended_us for times in rounds.values()), default=0) / 1e6
    end = now if run.open_rounds else last
    busy = sum(s.seconds for site in view.losses.runs.get(run.id, {}).values() for s in site.values())
    span = (end - first) * len(run.plan.members)
    return min(1.0, busy / span) if busy and span > 0 else None
