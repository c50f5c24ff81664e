# SPDX-License-Identifier: Apache-2.0
"""`[evaluation]` of site.toml: every mistake is a sentence."""

from pathlib import Path

import pytest

from federation.errors import ConfigError
from site_agent.site_config import load_site_config

HEAD = 'site = "x"\nprofile = "localhost"\ndata_dir = "data"\nlanguages = ["de"]\n'
GOOD = """
[evaluation]
every_commits = 5
command = ["/opt/bin/lm_eval", "--tasks", "{tasks}"]
[[evaluation.tasks]]
name = "quiz"
language = "de"
path = "quiz.jsonl"
[[evaluation.tasks]]
name = "belebele"
language = "deu_Latn"
harness_task = "belebele_deu_Latn"
metrics = ["acc", "acc_norm"]
"""


@pytest.fixture
def site_dir(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "quiz.jsonl").write_text("{}\n")
    return tmp_path


def load(site_dir: Path, text: str):
    (site_dir / "site.toml").write_text(HEAD + text)
    return load_site_config(site_dir)


def test_tasks_are_handed_on_with_absolute_paths(site_dir: Path) -> None:
    config = load(site_dir, GOOD)
    plan = config.evaluation.plan(site_dir)
    assert config.settings().tasks_every == 5
    assert [(t.name, t.path) for t in plan.of_files] == [("quiz", str(site_dir / "quiz.jsonl"))]
    assert [(t.harness_task, t.metrics) for t in plan.of_command] == [("belebele_deu_Latn", ("acc", "acc_norm"))]
    assert plan.command[0] == "/opt/bin/lm_eval"


def test_without_tasks_there_is_nothing_to_do(site_dir: Path) -> None:
    assert load(site_dir, "").settings().tasks_every == -1
    assert load(site_dir, "[evaluation]\nevery_commits = 3\n").settings().tasks_every == -1


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('path = "quiz.jsonl"', "", "evaluation.tasks[1]: expected either path or harness_task, found neither"),
        ('path = "quiz.jsonl"', 'path = "q"\nharness_task = "q"', "either path or harness_task, found both"),
        (
            'path = "quiz.jsonl"',
            'path = "none.jsonl"',
            "evaluation.tasks[1].path: expected a file of items, found none at",
        ),
        ('name = "belebele"\nlanguage = "deu_Latn"', 'name = "quiz"\nlanguage = "de"', "each name and language once"),
        ("/opt/bin/lm_eval", "lm_eval", "evaluation.command: expected the absolute path of an executable first"),
        ("command =", "max_seconds = 5 #", "evaluation.command: expected the command that scores harness_task"),
        (
            'harness_task = "belebele_deu_Latn"',
            'path = "quiz.jsonl"',
            "expected none, since no task has a harness_task",
        ),
        ('name = "quiz"', 'name = "Quiz!"', "lower-case letters, digits, hyphens and underscores"),
        ('language = "de"', 'language = "german"', "a language code such as de, deu or deu_Latn"),
        ("every_commits = 5", "every_commits = -1", "evaluation.every_commits"),
        ('"acc_norm"', '"acc norm"', "a metric's name such as acc_norm"),
        ("every_commits", "every_rounds", "evaluation.every_rounds"),
    ],
)
def test_each_mistake_is_told(site_dir: Path, old: str, new: str, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load(site_dir, GOOD.replace(old, new, 1))
    assert sentence in str(caught.value)
