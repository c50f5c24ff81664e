# SPDX-License-Identifier: Apache-2.0
"""Multiple-choice files, scored with the reference trainer's model; what is no such file is a sentence."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from job_bench.bench import work_order

from federation.leaves import TaskScore
from federation.manifest import Manifest, ModelSettings
from federation.testing.manifests import manifest_of, plan_of
from site_agent.data_sets import DataFormat, DataSet
from site_agent.inner_loop.seam import Float32Array, ScoredTasks, TaskProgress
from site_agent.jobs import EvaluationOrder, WorkOrder
from site_agent.task_orders import Task, TaskPlan
from site_agent.trainer.llama import EvaluatedModel
from site_agent.trainer.model import build_model, trainable_parameters
from site_agent.trainer.task_files import FileScorer, Question, log_likelihoods, scores_of
from site_agent.trainer.task_items import Item, Items, TaskFileError, read_items

MODEL = ModelSettings(
    hidden_size=16,
    intermediate_size=24,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    max_positions=24,
    vocab_size=257,
    tie_embeddings=True,
)
ORDER = EvaluationOrder(id=1, request=0, num_commits=0, versions=(0,), chains=((),))
ITEMS = [
    {"context": "Kaksi ja kaksi on", "choices": [" neljä", " viisi"], "answer": 0},
    {"context": "x" * 100, "choices": [" a", " bb", " ccc"], "answer": 2},
]


def manifest() -> Manifest:
    made = manifest_of(plan_of({"a": 4}, theta_digests=()), ())
    return replace(made, model=MODEL, trainer=replace(made.trainer, batch_size=2))


def parameters(seed: int) -> dict[str, Float32Array]:
    torch.manual_seed(seed)
    return {name: p.detach().numpy().copy() for name, p in trainable_parameters(build_model(MODEL))}


def task(path: Path, lines: Sequence[object] = ITEMS, **changes: object) -> Task:
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return replace(Task(name="quiz", language="fi", path=str(path)), **changes)


def order(*tasks: Task, **changes: object) -> WorkOrder:
    return work_order(evaluation=TaskPlan(tasks=tasks), **changes)


def scored(scorer: FileScorer, theta: dict[str, Float32Array]) -> tuple[list[TaskScore], list[str], int]:
    """Scores, problems, and pieces of work."""
    found = list(scorer.score(ORDER, lambda: theta))
    results = [item for item in found if isinstance(item, ScoredTasks)]
    scores = [score for item in results for score in item.scores]
    return scores, [p for item in results for p in item.problems], found.count(TaskProgress.WORKED)


def test_the_likelihood_of_a_choice_is_that_of_its_bytes_one_by_one() -> None:
    torch.manual_seed(3)
    model, tokens = build_model(MODEL), np.array([256, 65, 66, 67, 68], np.int64)
    short = Question(tokens=np.array([256, 70, 71], np.int64), num_scored=1)
    found = log_likelihoods(model, [Question(tokens=tokens, num_scored=2), short])
    expected = 0.0
    for at in (3, 4):
        logits = model(input_ids=torch.from_numpy(tokens[None, :at])).logits[0, -1]
        expected += float(torch.log_softmax(logits, -1)[tokens[at]].detach())
    assert math.isclose(found[0], expected, rel_tol=1e-5)
    assert math.isclose(found[1], log_likelihoods(model, [short])[0], rel_tol=1e-5), "what fills a row counts"


def test_accuracy_is_counted_by_likelihood_and_by_likelihood_per_character() -> None:
    item = Item(context=b"", choices=("a", "ääää"), answer=1)
    found = Items(items=(item, item, replace(item, answer=0)), version="1")
    by_name = {s.metric: s for s in scores_of(Task(name="quiz", language="fi"), found, [-1.0, -2.0] * 3)}
    assert (by_name["acc"].score, by_name["acc_norm"].score) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert by_name["acc"].low < 1 / 3 < by_name["acc"].high
    assert (by_name["acc"].num_items, by_name["acc"].task_version) == (3, "1")


def test_a_blank_between_context_and_choice_is_no_character_of_the_choice() -> None:
    """As in lm-evaluation-harness, where it is the delimiter: per character " ab" has -1.5 each, " abcd" -1.375."""
    item = Item(context=b"x", choices=(" ab", " abcd"), answer=1)
    likelihoods = [-3.0, -5.5]  # with the blank counted it would be -1.0 and -1.1
    found = scores_of(Task(name="quiz", language="fi"), Items(items=(item,), version="1"), likelihoods)
    assert {s.metric: s.score for s in found} == {"acc": 0.0, "acc_norm": 1.0}
    blank = Item(context=b"x", choices=(" ", " a"), answer=1)
    scores_of(Task(name="quiz", language="fi"), Items(items=(blank,), version="1"), likelihoods)


def test_a_job_scores_files_in_batches_and_draws_nothing(tmp_path: Path) -> None:
    theta, first = parameters(1), task(tmp_path / "a")
    second = task(tmp_path / "b", name="other", version="7", max_items=1)
    scorer = FileScorer(manifest(), order(first, second), EvaluatedModel(manifest()))
    before = torch.get_rng_state()
    scores, problems, num_pieces = scored(scorer, theta)
    assert torch.equal(torch.get_rng_state(), before)
    assert problems == []
    assert num_pieces == 3 + 1  # of two choices each
    assert [(s.task, s.metric, s.num_items) for s in scores] == [
        ("quiz", "acc", 2),
        ("quiz", "acc_norm", 2),
        ("other", "acc", 1),
        ("other", "acc_norm", 1),
    ]
    assert len(scores[0].task_version) == 12
    assert scores[2].task_version == "7"
    assert scored(scorer, theta)[0] == scores


def test_another_evaluation_in_between_changes_no_score(tmp_path: Path) -> None:
    theta, others = parameters(1), parameters(2)
    model = EvaluatedModel(manifest())
    scorer = FileScorer(manifest(), order(task(tmp_path / "a")), model)
    expected, _, _ = scored(scorer, theta)
    found: list[TaskScore] = []
    for item in scorer.score(replace(ORDER, id=2), lambda: theta):
        model.filled_for(object(), lambda: others)
        found += item.scores if isinstance(item, ScoredTasks) else ()
    assert found == expected


def test_the_version_names_exactly_the_items_that_are_scored(tmp_path: Path) -> None:
    whole = read_items(task(tmp_path / "a")).version
    assert read_items(task(tmp_path / "b", ["\n", *ITEMS, "  \n"])).version == whole
    assert read_items(task(tmp_path / "c", ITEMS[:1])).version == read_items(task(tmp_path / "d", max_items=1)).version
    assert read_items(task(tmp_path / "e", ITEMS[:1])).version != whole


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("SECRET\n", "line 1: expected a JSON object, found something else"),
        ([1], "line 1: expected context, a text, found none"),
        ({"context": 3, "choices": ["a", "b"], "answer": 0}, "line 1: expected context, a text, found none"),
        ({"context": "c", "choices": ["a", ""], "answer": 0}, "line 1: expected choices, a list of texts"),
        ({"context": "c", "choices": ["a"], "answer": 0}, "line 1: expected 2 to 100 choices, found 1"),
        (
            {"context": "c", "choices": ["a", "b"], "answer": 2},
            "line 1: expected answer, a choice's number from 0 to 1",
        ),
        ({"context": "c", "choices": ["a", "b"], "answer": True}, "line 1: expected answer, a choice's number"),
        ('{"context": "\\ud800", "choices": ["a", "b"], "answer": 0}\n', "line 1: expected texts that UTF-8 can hold"),
        ("[" * 100_000 + "\n", "line 1: expected a JSON object"),
        ("x" * (1024 * 1024 + 1), "line 1: expected at most 1048576 bytes, found more"),
        ("\n", "expected at least one item in its file, found none"),
    ],
)
def test_a_bad_line_is_named_and_not_quoted(tmp_path: Path, line: object, sentence: str) -> None:
    with pytest.raises(TaskFileError) as caught:
        read_items(task(tmp_path / "a", [line]))
    assert str(caught.value).startswith("quiz fi")
    assert sentence in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_file_that_cannot_be_scored_leaves_the_others_their_scores(tmp_path: Path) -> None:
    long = {"context": "c", "choices": ["x" * 30, "b"], "answer": 0}
    tasks = (
        Task(name="gone", language="fi", path=str(tmp_path / "gone")),
        task(tmp_path / "long", [long], name="long"),
        task(tmp_path / "a"),
    )
    scores, problems, _ = scored(FileScorer(manifest(), order(*tasks), EvaluatedModel(manifest())), parameters(1))
    assert {s.task for s in scores} == {"quiz"}
    assert problems == [
        "gone fi: expected a file of items, found: No such file or directory",
        "long fi: expected choices of fewer than 24 bytes, the model's context, found one of 30",
    ]


def test_a_model_of_token_ids_reads_no_text_files(tmp_path: Path) -> None:
    ids = DataSet(name="d", path="/x", format=DataFormat.MEGATRON, language="fi")
    scorer = FileScorer(manifest(), order(task(tmp_path / "a"), data_sets=(ids,)), EvaluatedModel(manifest()))
    scores, problems, _ = scored(scorer, parameters(1))
    assert scores == []
    assert problems == ["quiz fi: expected a model of bytes, found one of token ids; let evaluation.command score it"]
