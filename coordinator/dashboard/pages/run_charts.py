# SPDX-License-Identifier: Apache-2.0
"""Charts of one run."""

from collections.abc import Callable, Mapping

from coordinator.dashboard.charts import Chart, Series
from coordinator.dashboard.follower import View
from federation.ledger_state import Run


def overall_chart(run: Run, view: View) -> Chart:
    """Mean bits per byte over the languages that every evaluation has, with the best and the worst of them."""
    scores = view.history.scores.of(run)
    by_commits = {commits: scores.by_commits[commits] for commits in scores.settled}
    common = set.intersection(*(set(scores) for scores in by_commits.values())) if by_commits else set()

    def build(last: int | None) -> tuple[Series, ...]:
        chosen = list(by_commits)[-last:] if last else list(by_commits)
        if not common:
            return ()
        points = [[by_commits[commits][language].mean for language in common] for commits in chosen]
        xs = [float(commits) for commits in chosen]
        low, high = [min(values) for values in points], [max(values) for values in points]
        mean = [sum(values) / len(values) for values in points]
        return (
            Series(name=f"mean of {len(common)} languages", x=xs, y=mean, band=(low, high)),
            Series(name="best language", x=xs, y=low),
            Series(name="worst language", x=xs, y=high),
        )

    return Chart(
        id="bits",
        title="Bits per byte",
        x_title="Commits",
        y_title="Bits per byte",
        build=build,
        has_values=bool(common),
        note="Over the languages that every evaluated model was scored in.",
        empty="No model of this run was evaluated yet, or no language was scored in all of them.",
    )


def loss_chart(run: Run, view: View) -> Chart:
    """Mean training loss per round and site, from step metrics; else the loss that came with its report."""
    losses = {member.site: view.losses.of(run.id, member.site) for member in run.plan.members}

    def value(number: int, site: str) -> float | None:
        steps = losses[site].get(number)
        return steps.mean_loss if steps is not None else view.times.of(run.id, number).losses.get(site)

    return Chart(
        id="loss",
        title="Training loss per site",
        x_title="Round",
        y_title="Loss",
        build=lambda last: per_site(run, value, last),
        has_values=any(losses.values()) or any(t.losses for t in view.times.rounds.get(run.id, {}).values()),
        note="Mean over the inner steps that the site reported in the round; telemetry, not evidence.",
        empty="No site has reported a loss yet.",
    )


def contribution_chart(
    run: Run, name: str, title: str, y_title: str, values: Mapping[str, Mapping[int, float]]
) -> Chart:
    """What the commits say of each site's update."""
    nothing: Mapping[int, float] = {}
    return Chart(
        id=name,
        title=title,
        x_title="Round",
        y_title=y_title,
        build=lambda last: per_site(run, lambda number, site: values.get(site, nothing).get(number), last),
        has_values=bool(values),
    )


def per_site(run: Run, value: Callable[[int, str], float | None], last: int | None) -> tuple[Series, ...]:
    """One line a member over all rounds, or the newest."""
    numbers = sorted(run.rounds)
    numbers = numbers[-last:] if last else numbers
    xs = [float(number) for number in numbers]
    return tuple(
        Series(name=member.site, x=xs, y=[value(number, member.site) for number in numbers])
        for member in run.plan.members
    )


def utilisation(run: Run, view: View, now: float) -> float | None:
    """Share of time in which steps were taken, over the sites that report steps; None where none does.

    Of each site from the opening of the first round on whose steps are kept: the store of step metrics is bounded.
    """
    rounds = view.times.rounds.get(run.id, {})
    last = max((times.ended_us for times in rounds.values()), default=0) / 1e6
    end = now if run.open_rounds else last
    busy = span = 0.0
    for steps in view.losses.runs.get(run.id, {}).values():
        opened = [rounds[number].opened_us for number in steps if number in rounds]
        if opened:
            busy += sum(found.seconds for number, found in steps.items() if number in rounds)
            span += end - min(opened) / 1e6
    return min(1.0, busy / span) if busy and span > 0 else None
