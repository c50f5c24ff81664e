# SPDX-License-Identifier: Apache-2.0
"""What a site did when, a character for each slice of time."""

from typing import Any

from run_documents import NOW, opened, phases, run_document, site, verdict

from coordinator.cli.picture.lanes import axis, lane, span_of


def lanes(rounds: list[dict[str, Any]], log: list[Any], cells: int = 20, **changes: Any) -> list[str]:
    document = run_document(["alpha"], round_log=rounds, sites_now={"alpha": site(allocation_log=log)}, **changes)
    span = span_of(document, NOW, cells)
    assert span is not None
    return [axis(span), lane(document, "alpha", span)]


def test_a_job_waits_in_the_queue_then_trains_and_uploads() -> None:
    found = opened(18, ["alpha"], "open", phases={"alpha": phases(NOW - 100)})
    found["phases"]["alpha"] |= {"uploading_at": NOW - 40}
    log = [[NOW - 500, "queued"], [NOW - 150, "ready"]]
    head, line = lanes([{**found, "opened_at_us": int((NOW - 200) * 1e6)}], log)
    assert head == "r18"
    assert line == "qqqqq......tttttuuuu"


def test_overlapping_windows_train_while_the_one_before_uploads() -> None:
    first = opened(18, ["alpha"], "open", phases={"alpha": {"training_at": NOW - 200, "uploading_at": NOW - 100}})
    second = opened(19, ["alpha"], "open", phases={"alpha": {"training_at": NOW - 100, "uploading_at": None}})
    head, line = lanes([first, second], [])
    assert head == "r18       r19"
    assert line == "tttttttttt" + "TTTTTTTTTT"


def test_a_verdict_is_marked_where_it_fell() -> None:
    late = {"alpha": verdict("missed", "no-answer")}
    missed = opened(17, ["alpha"], verdicts=late, verdicts_at_us={"alpha": int((NOW - 200) * 1e6)}, phases={})
    admitted = opened(18, ["alpha"], verdicts_at_us={"alpha": int((NOW - 60) * 1e6)})
    _, line = lanes([missed, admitted], [], cells=30)
    assert line.index("!") == 10
    assert line.index("+") == 24


def test_what_is_not_known_is_not_made_up() -> None:
    """A coordinator that was restarted knows that a site was in a round, and no more."""
    _, line = lanes([opened(18, ["alpha"], "open", phases={}), opened(19, [], "open")], [])
    assert set(line) == {"-"}
    _, line = lanes([opened(18, [], "open")], [])
    assert line == ""


def test_lanes_of_a_run_that_is_over_end_with_it() -> None:
    rounds = [opened(1, ["alpha"]), opened(2, ["alpha"])]
    head, line = lanes(rounds, [], cells=30, state="completed")
    assert head.startswith("r1")
    assert len(line) > 20


def test_there_are_none_without_rounds_or_room() -> None:
    assert span_of(run_document(round_log=[]), NOW, 80) is None
    assert span_of(run_document(), NOW, 10) is None


def test_a_stranger_to_the_document_has_an_empty_lane() -> None:
    document = run_document()
    span = span_of(document, NOW, 40)
    assert span is not None
    assert lane(document, "nobody", span) == ""
