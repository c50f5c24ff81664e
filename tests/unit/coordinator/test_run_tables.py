# SPDX-License-Identifier: Apache-2.0
"""A run's tables from its leaves and telemetry: what stands and what does not, when, and what nobody knows."""

from dataclasses import replace
from typing import Any

import pytest

from coordinator.exports.tensorboard_files import scalars
from coordinator.phases import Mark, PhaseChange
from coordinator.run_columns import SCHEMAS, Kind, Table, dictionary
from coordinator.run_tables import RunTables, run_tables
from coordinator.telemetry import StepMetrics
from federation import leaves as lv
from federation.errors import UsageError
from federation.leaves import Outcome, Reason
from federation.testing.history import PLAN, SITES, digest_of, history


def of_history(*more: lv.Body) -> RunTables:
    leaves = history()
    end = leaves[-1].at_us
    return run_tables("demo", [*leaves, *(lv.Leaf(at_us=end + 1 + i, body=body) for i, body in enumerate(more))])


def rows(table: Table, **wanted: Any) -> list[dict[str, Any]]:
    names = [column.name for column in table.columns]
    found = [dict(zip(names, cells, strict=True)) for cells in zip(*table.values, strict=True)]
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def time_of(kind: type[lv.Body], number: int = -1, nth: int = 0) -> int:
    """When a leaf of the history was written."""
    found = [leaf.at_us for leaf in history() if isinstance(leaf.body, kind)]
    numbered = [
        leaf.at_us for leaf in history() if isinstance(leaf.body, kind) and getattr(leaf.body, "round", -1) == number
    ]
    return (numbered if number >= 0 else found)[nth]


def verdict(number: int, site: str, outcome: Outcome, reason: Reason, **more: Any) -> lv.VerdictV1:
    return lv.VerdictV1(run="demo", round=number, site=site, outcome=outcome, reason=reason, sentence="why", **more)


def test_rounds_committed_reverted_and_abandoned() -> None:
    found = rows(of_history().table("rounds"))
    assert [(r["round"], r["state"], r["reverted"]) for r in found] == [
        (0, "committed", False),
        (1, "committed", True),
        (2, "abandoned", False),
        (3, "committed", False),
    ]
    first, _, abandoned, _ = found
    assert first["opened_at"] == time_of(lv.RoundOpenedV1, 0)
    assert first["sealed_at"] == time_of(lv.RoundSealedV1, 0)
    assert first["ended_at"] == time_of(lv.RoundCommittedV1, 0)
    assert (first["aggregate_norm"], first["blob_bytes"], first["payload_bytes"]) == (1.25, 8, 16)
    assert (first["num_invited"], first["num_admitted"], first["reason"]) == (3, 2, None)
    assert first["sentence"] == "2 of 3 sites"
    assert abandoned["ended_at"] == time_of(lv.RoundAbandonedV1, 2)
    assert (abandoned["sealed_at"], abandoned["aggregate_norm"], abandoned["blob_bytes"]) == (None, None, None)
    assert (abandoned["reason"], abandoned["sentence"]) == ("reverted", "rolled back")
    assert found[3]["lr_position"] == 4


def test_a_site_has_one_row_a_round_that_stands() -> None:
    updates = of_history().table("updates")
    assert [(r["round"], r["site"]) for r in rows(updates, stands=True)] == [(n, s) for n in range(4) for s in SITES]
    (admitted,) = rows(updates, round=0, site="alpha", stands=True)
    assert (admitted["outcome"], admitted["reason"], admitted["weight"]) == ("admitted", None, 0.5)
    assert (admitted["norm"], admitted["cosine"], admitted["new_tokens"]) == (1.5, 0.75, 100)
    assert (admitted["allocation"], admitted["num_steps"]) == ("a1", 4)
    assert admitted["at"] == time_of(lv.VerdictV1, 0)


def test_a_second_digest_is_a_row_that_does_not_stand() -> None:
    (second,) = rows(of_history().table("updates"), round=0, stands=False)
    assert (second["site"], second["outcome"], second["reason"]) == ("alpha", "equivocation", "second-digest")
    assert (second["weight"], second["cosine"]) == (None, None)
    assert second["at"] == time_of(lv.VerdictV1, 0, nth=2)


def test_what_was_never_measured_is_none_and_not_zero() -> None:
    gone = verdict(0, "gamma", Outcome.MISSED, Reason.NO_ANSWER)
    leaves = [
        replace(leaf, body=gone) if isinstance(leaf.body, lv.VerdictV1) and leaf.body.site == "gamma" else leaf
        for leaf in history()[: len(history()) // 2]
        if getattr(leaf.body, "round", 0) == 0
    ]
    (missed,) = rows(run_tables("demo", leaves).table("updates"), site="gamma")
    assert (missed["outcome"], missed["reason"], missed["sentence"]) == ("missed", "no-answer", "why")
    figures = ("weight", "weight_tokens", "new_tokens", "num_steps", "payload_bytes", "norm", "cosine")
    assert [missed[name] for name in figures] == [None] * len(figures)


def test_late_verdicts_and_those_of_no_round_do_not_stand() -> None:
    late = verdict(1, "gamma", Outcome.REJECTED, Reason.LATE, update_digest=digest_of("late"), new_tokens=7)
    stray = verdict(99, "beta", Outcome.REJECTED, Reason.WRONG_ROUND, update_digest=digest_of("stray"))
    updates = of_history(late, stray).table("updates")
    (found,) = rows(updates, round=1, site="gamma", stands=False)
    assert (found["reason"], found["new_tokens"], found["norm"]) == ("late", 7, None)
    (missed,) = rows(updates, round=1, site="gamma", stands=True)
    assert missed["reason"] == "no-answer"
    (last,) = rows(updates, round=99)
    assert (last["site"], last["stands"], last["allocation"]) == ("beta", False, None)


def test_sites_that_were_not_invited_and_sites_without_a_verdict() -> None:
    leaves = [leaf for leaf in history() if isinstance(leaf.body, lv.RunCreatedV1 | lv.RunApprovedV1 | lv.RunStartedV1)]
    opened = lv.RoundOpenedV1(
        run="demo",
        round=0,
        fragment=0,
        base_version=0,
        base_digest="0" * 64,
        lr_position=0,
        invitations=(lv.Invitation(site="alpha", allocation="a7", num_steps=4),),
        sentence="",
    )
    joined = lv.SiteInvitedV1(run="demo", round=0, invitation=lv.Invitation(site="beta", allocation="b1", num_steps=4))
    tables = run_tables("demo", [*leaves, *(lv.Leaf(at_us=9_000_000, body=body) for body in (opened, joined))])
    found = rows(tables.table("updates"))
    assert [(r["site"], r["outcome"], r["allocation"], r["at"]) for r in found] == [
        ("alpha", None, "a7", None),
        ("beta", None, "b1", None),
        ("gamma", "not-invited", None, None),
    ]
    (round_row,) = rows(tables.table("rounds"))
    assert (round_row["state"], round_row["ended_at"], round_row["sentence"]) == ("open", None, None)
    assert (round_row["num_invited"], round_row["num_admitted"], round_row["payload_bytes"]) == (2, 0, 0)


def test_scores_name_the_request_only_if_there_was_one() -> None:
    own = lv.EvaluationRecordedV1(
        run="demo",
        site="beta",
        request=0,
        num_commits=1,
        versions=(1,),
        scores=(
            lv.LanguageScore(language="de", bits_per_byte=1.5, num_bytes=10),
            lv.LanguageScore(language="mlt_Latn", bits_per_byte=float("inf"), num_bytes=0),
        ),
        evidence_digest=digest_of("own"),
    )
    found = rows(of_history(own).table("scores"))
    assert [(r["site"], r["language"], r["request"], r["bits_per_byte"]) for r in found] == [
        ("alpha", "de", 1, 2.5),
        ("beta", "de", None, 1.5),
        ("beta", "mlt_Latn", None, None),
    ]
    assert (found[0]["commits"], found[0]["num_bytes"], found[0]["at"]) == (2, 4096, time_of(lv.EvaluationRecordedV1))


def test_scores_of_a_model_that_was_rolled_back_are_marked() -> None:
    leaves = history()
    (at,) = (i for i, leaf in enumerate(leaves) if isinstance(leaf.body, lv.RunRevertedV1))
    bits = lv.LanguageScore(language="de", bits_per_byte=9.0, num_bytes=2**64 - 1)
    common = {"run": "demo", "site": "beta", "request": 0, "num_commits": 2, "evidence_digest": digest_of("e")}
    bodies = (
        lv.EvaluationRecordedV1(versions=(2,), scores=(bits,), **common),
        lv.TasksEvaluatedV1(versions=(2,), scores=(TASK,), **common),
    )
    more = [lv.Leaf(at_us=leaves[at].at_us, body=body) for body in bodies]
    after = lv.Leaf(at_us=leaves[-1].at_us, body=lv.TasksEvaluatedV1(versions=(4,), scores=(TASK,), **common))
    tables = run_tables("demo", [*leaves[:at], *more, *leaves[at:], after])
    assert [(r["site"], r["commits"], r["bits_per_byte"], r["reverted"]) for r in rows(tables.table("scores"))] == [
        ("beta", 2, 9.0, True),
        ("alpha", 2, 2.5, False),
    ]
    assert tables.table("scores").column("num_bytes")[0] is None, "more than any column can hold"
    assert [(r["site"], r["task"], r["score"], r["reverted"]) for r in rows(tables.table("tasks"))] == [
        ("beta", "quiz", 0.5, True),
        ("beta", "quiz", 0.5, False),
    ]
    curve = [(s.step, s.value) for s in scalars(tables) if s.tag == "bits_per_byte/de"]
    assert curve == [(2, 2.5)]


TASK = lv.TaskScore(
    task="quiz", language="de", task_version="1", metric="acc", num_items=4, score=0.5, low=0.1, high=0.9
)


def test_phases_stand_between_invitation_and_verdict() -> None:
    def change(mark: Mark, at: float, number: int = 3, run: str = "demo") -> PhaseChange:
        return PhaseChange(run=run, round=number, mark=mark, at=at, loss=float("nan"))

    heard = [
        change(Mark.ANSWERED, 31.5),
        change(Mark.TRAINING, 32.5),
        change(Mark.TRAINING, 99.0),  # noted again after a restart
        change(Mark.UPLOADING, 33.0, run="other"),
        change(Mark.UPLOADING, 33.0, number=2**80),
    ]
    found = rows(run_tables("demo", history(), phases={"alpha": heard}).table("phases"))
    assert [(r["round"], r["site"]) for r in found] == [(n, s) for n in range(4) for s in SITES]
    (row,) = [r for r in found if (r["round"], r["site"]) == (3, "alpha")]
    assert row["invited_at"] == time_of(lv.RoundOpenedV1, 3)
    assert row["decided_at"] == time_of(lv.VerdictV1, 3)
    assert (row["answered_at"], row["training_at"], row["uploading_at"]) == (31_500_000, 32_500_000, None)


def test_a_claim_that_no_column_can_hold_is_none() -> None:
    """A site may sign any 64 bits; the verdict that refuses them has them."""
    huge = verdict(99, "beta", Outcome.REJECTED, Reason.WRONG_TOKENS, update_digest=digest_of("u"), new_tokens=2**63)
    (row,) = rows(of_history(huge).table("updates"), round=99)
    assert row["new_tokens"] is None
    assert row["weight_tokens"] == 0


def test_of_repeated_steps_the_last_counts_and_other_runs_are_left_out() -> None:
    steps = [
        StepMetrics(run=run, at=at, num_steps=n, loss=loss)
        for run, at, n, loss in (
            ("demo", 1.5, 2, 3.0),
            ("demo", 2.5, 1, 4.0),
            ("other", 3.0, 1, 9.0),
            ("", None, 3, 9.0),
            ("demo", 4.000001, 2, 2.0),
        )
    ]
    tables = run_tables("demo", history(), {"alpha": steps, "elsewhere": steps})
    found = rows(tables.table("steps"))
    assert [(r["site"], r["num_steps"], r["loss"], r["received_at"]) for r in found] == [
        ("alpha", 1, 4.0, 2_500_000),
        ("alpha", 2, 2.0, 4_000_001),
    ]
    assert found[0]["tokens"] is None


def test_leaves_of_other_runs_change_nothing() -> None:
    others = [
        lv.RunCreatedV1(run="other", manifest_digest=digest_of("o"), plan=PLAN, operator="olga", command="c"),
        lv.SiteDrainedV1(site="alpha", operator="olga", command="d"),
    ]
    assert of_history(*others) == of_history()


def test_a_run_without_rounds_has_empty_tables_and_no_run_is_refused() -> None:
    leaves = [leaf for leaf in history() if isinstance(leaf.body, lv.RunCreatedV1)]
    tables = run_tables("demo", leaves)
    assert [table.num_rows for table in tables.tables] == [0] * len(SCHEMAS)
    with pytest.raises(UsageError, match="no run of that name"):
        run_tables("nothing", leaves)


def test_the_dictionary_explains_every_column_of_every_table() -> None:
    document = dictionary()
    assert list(document) == [table.name for table in of_history().tables] == list(SCHEMAS)
    for name, (_, columns) in SCHEMAS.items():
        assert len({column.name for column in columns}) == len(columns)
        for column, described in zip(columns, document[name]["columns"], strict=True):
            assert described["meaning"]
            assert described["kind"] == column.kind.value
            assert (column.kind is Kind.TIME) == (column.unit == "UTC")


def test_cells_are_of_their_columns_kind() -> None:
    types = {Kind.TEXT: str, Kind.COUNT: int, Kind.FIGURE: float, Kind.FLAG: bool, Kind.TIME: int}
    for table in of_history().tables:
        for column, values in zip(table.columns, table.values, strict=True):
            assert {type(value) for value in values} <= {types[column.kind], type(None)}, column.name
