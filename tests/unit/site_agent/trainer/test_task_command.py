# SPDX-License-Identifier: Apache-2.0
"""Tasks scored by an executable of the site: real processes, results in lm-evaluation-harness's layout."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from job_bench.bench import work_order

from federation.durable.real import RealFileSystem
from federation.leaves import TaskScore
from federation.manifest import Alias, Manifest, ModelSettings
from federation.task_scores import wilson
from federation.testing.manifests import manifest_of, plan_of
from site_agent.inner_loop.seam import ScoredTasks, TaskProgress
from site_agent.jobs import EvaluationOrder
from site_agent.task_orders import Task, TaskPlan
from site_agent.trainer.model import build_model, trainable_parameters
from site_agent.trainer.task_command import CommandScorer
from site_agent.trainer.task_export import export_model
from site_agent.trainer.task_results import ResultsError, read_results

MODEL = ModelSettings(
    hidden_size=16,
    intermediate_size=24,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    max_positions=32,
    vocab_size=264,
    tie_embeddings=True,
)
ORDER = EvaluationOrder(id=1, request=0, num_commits=7, versions=(7,), chains=((),))
TASK = Task(name="belebele", language="deu_Latn", harness_task="belebele_deu_Latn")
RESULTS: dict[str, Any] = {
    "results": {
        "belebele_deu_Latn": {"alias": "belebele", "acc,none": 0.31, "acc_stderr,none": 0.0154, "f1,none": 0.4},
        "gen_de": {"bleu,none": 12.5, "bleu_stderr,none": 0.5, "exact_match,strict": 0.0, "chrf,none": "N/A"},
    },
    "versions": {"belebele_deu_Latn": 0.0, "gen_de": "1.1"},
    "n-shot": {"belebele_deu_Latn": 5},
    "n-samples": {"belebele_deu_Latn": {"original": 900, "effective": 900}, "gen_de": {"effective": 50}},
}


def manifest() -> Manifest:
    made = replace(manifest_of(plan_of({"a": 4}, theta_digests=()), ()), model=MODEL)
    return replace(made, aliases=(Alias(name="lm_head.weight", of="model.embed_tokens.weight"),))


def parameters() -> dict[str, np.ndarray]:
    torch.manual_seed(1)
    return {name: p.detach().numpy().copy() for name, p in trainable_parameters(build_model(MODEL))}


# --- results ----------------------------------------------------------------------------------------------------------


def results(directory: Path, raw: object, *tasks: Task) -> ScoredTasks:
    inner = directory / "org__model"
    inner.mkdir()
    (inner / "results_2026-01-01.json").write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return read_results(directory, tasks or (TASK,))


def test_proportions_get_wilsons_interval_and_versions_say_how_many_examples_were_shown(tmp_path: Path) -> None:
    found = results(tmp_path, RESULTS)
    low, high = wilson(0.31 * 900, 900)
    assert found.scores == (
        TaskScore(
            task="belebele",
            language="deu_Latn",
            task_version="0.0+5shot",
            metric="acc",
            num_items=900,
            score=0.31,
            low=low,
            high=high,
        ),
    )
    assert found.problems == ()


def test_other_metrics_get_theirs_from_the_standard_error(tmp_path: Path) -> None:
    found = results(tmp_path, RESULTS, Task(name="gen", language="de", harness_task="gen_de"))
    assert [(s.metric, s.score) for s in found.scores] == [("bleu", 12.5), ("exact_match.strict", 0.0)]
    assert (found.scores[0].low, found.scores[0].high) == pytest.approx((11.52, 13.48), abs=1e-3)
    assert found.scores[1].high > 0.05, "no item right is no certainty"


def test_a_metric_that_is_wanted_and_missing_is_told(tmp_path: Path) -> None:
    found = results(tmp_path, RESULTS, replace(TASK, metrics=("acc", "acc_norm", "f1")))
    assert [s.metric for s in found.scores] == ["acc"]
    assert found.problems == (
        "belebele deu_Latn: the command left no acc_norm with a standard error",
        "belebele deu_Latn: the command left no f1 with a standard error",
    )


def without(part: str) -> dict[str, Any]:
    return {name: value for name, value in RESULTS.items() if name != part}


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (RESULTS | {"results": {}}, "the command left no results of it"),
        (without("n-samples"), "expected the number of its items (n-samples), found none"),
        (RESULTS | {"n-samples": {TASK.harness_task: {"effective": -4}}}, "expected the number of its items"),
        (without("versions"), "expected its version, found none"),
        (RESULTS | {"versions": {TASK.harness_task: "a secret\n"}}, "expected its version, found none"),
        (RESULTS | {"results": {TASK.harness_task: {"acc,none": float("nan")}}}, "no metric with a standard error"),
        (RESULTS | {"results": {TASK.harness_task: {"acc,none": 10**400}}}, "no metric with a standard error"),
        (
            RESULTS | {"results": {TASK.harness_task: {"Acc Urate,none": 1.0, "Acc Urate_stderr,none": 1.0}}},
            "no metric",
        ),
    ],
)
def test_what_is_no_score_is_a_problem_of_its_task(tmp_path: Path, raw: object, problem: str) -> None:
    found = results(tmp_path, raw)
    assert found.scores == ()
    assert problem in found.problems[0]
    assert "secret" not in str(found.problems)


@pytest.mark.parametrize("raw", ["SECRET", "[]", '{"results": 3}', "[" * 100_000])
def test_what_is_no_results_file_is_refused_and_not_quoted(tmp_path: Path, raw: str) -> None:
    with pytest.raises(ResultsError, match="expected") as caught:
        results(tmp_path, raw)
    assert "SECRET" not in str(caught.value)


def test_links_and_pipes_are_no_results(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("/etc/hostname")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ResultsError, match="found none"):
        read_results(tmp_path, (TASK,))


# --- model ------------------------------------------------------------------------------------------------------------


def test_the_model_is_loaded_by_the_library_that_the_harness_uses(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    fs, theta = RealFileSystem(tmp_path), parameters()
    export_model(fs, "model", manifest(), theta, reads_bytes=True)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert all(np.array_equal(p.detach().numpy(), theta[name]) for name, p in trainable_parameters(loaded))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    text = "Äiti – 中文 \n\t ok"
    assert tokenizer(text)["input_ids"] == [256, *text.encode()]
    assert tokenizer.decode(list(text.encode())) == text
    torch.manual_seed(1)
    tokens = torch.tensor([[256, *b"abc"]])
    expected = build_model(MODEL)(input_ids=tokens).logits
    assert torch.allclose(loaded(input_ids=tokens).logits, expected, atol=1e-5)


# --- processes --------------------------------------------------------------------------------------------------------

PROGRAM = """
import json, os, sys
order = json.load(open(os.environ["FEDERATION_WORK_ORDER"]))
assert sys.argv[1:] == [order["model"], ",".join(order["tasks"]), order["output"], order["device"]], sys.argv
assert os.path.getsize(order["model"] + "/model.safetensors") > 1000
assert "SECRET_TOKEN" not in os.environ and os.environ["HF_HOME"] == "/hf"
json.dump({RESULTS}, open(order["output"] + "/results.json", "w"))
"""
WORDS = ("{model}", "{tasks}", "{output}", "{device}")


def scorer(tmp_path: Path, program: str, seconds: float = 60.0) -> CommandScorer:
    script = tmp_path / "program.py"
    script.write_text(program.replace("{RESULTS}", repr(RESULTS)))
    plan = TaskPlan(tasks=(TASK,), command=(sys.executable, str(script), *WORDS), max_seconds=seconds)
    return CommandScorer(manifest(), work_order(evaluation=plan), RealFileSystem(tmp_path / "run"))


def outcome(found: CommandScorer) -> ScoredTasks:
    """What it yields at last; between two looks it waits."""
    deadline = time.monotonic() + 60
    for item in found.score(ORDER, parameters):
        if isinstance(item, ScoredTasks):
            return item
        assert time.monotonic() < deadline
        if item is TaskProgress.WAITS:
            time.sleep(0.01)
    raise AssertionError("no result")


def test_a_command_gets_the_model_and_leaves_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/hf")
    monkeypatch.setenv("HF_SECRET_TOKEN", "x")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    found = outcome(scorer(tmp_path, PROGRAM))
    assert found.problems == ()
    assert [(s.task, s.metric, s.score) for s in found.scores] == [("belebele", "acc", 0.31)]
    assert not (tmp_path / "run/tasks/command").exists()


@pytest.mark.parametrize(
    ("program", "seconds", "problem"),
    [
        ("raise SystemExit(3)", 60.0, "expected the command to end with exit status 0, found exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", 60.0, "found killed by SIGKILL"),
        ("import time; time.sleep(600)", 0.2, "expected the command to end within 0 s; it was ended"),
        ("pass", 60.0, "expected the command to leave results"),
    ],
)
def test_a_command_that_fails_is_a_sentence(tmp_path: Path, program: str, seconds: float, problem: str) -> None:
    found = outcome(scorer(tmp_path, program, seconds))
    assert found.scores == ()
    assert problem in found.problems[0]
    assert found.problems[0].startswith("belebele deu_Latn: ")


def test_a_command_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    plan = TaskPlan(tasks=(TASK,), command=("/nonexistent/lm_eval",))
    found = outcome(CommandScorer(manifest(), work_order(evaluation=plan), RealFileSystem(tmp_path / "run")))
    assert "expected evaluation.command to be an executable that can be started, found none" in found.problems[0]


def test_who_drops_it_ends_the_command_with_all_its_children(tmp_path: Path) -> None:
    work = scorer(tmp_path, "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)").score(
        ORDER, parameters
    )
    pid_file, deadline = tmp_path / "run/tasks/command/pid", time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text()):
        assert next(work) in TaskProgress
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pid = int(pid_file.read_text())
    work.close()
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
