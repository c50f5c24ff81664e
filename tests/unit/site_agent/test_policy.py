# SPDX-License-Identifier: Apache-2.0
"""The site's policy: deny by default, checks in a fixed order, every answer with its reason and a sentence."""

from dataclasses import replace
from pathlib import Path

import pytest

from federation.errors import ConfigError
from federation.leaves import Reason
from federation.manifest import FragmentTable, Manifest, TableEntry
from federation.run_config import build_manifest, parse_run_config
from site_agent.observations import Answer
from site_agent.policy import (
    POLICY_FILE,
    PerDay,
    Policy,
    PolicyAnswer,
    decide_manifest,
    load_policy,
    may_start,
    policy_text,
)

RUN = """\
[run]
id = "tiny"
consortium = "test"
num_rounds = 10
[model]
hidden_size = 16
intermediate_size = 32
num_layers = 2
num_heads = 2
[trainer]
batch_size = 2
sequence_length = 8
[[sites]]
id = "lumi"
[[sites]]
id = "leonardo"
"""

TABLE = FragmentTable(num_elements=3, entries=(TableEntry(name="w", shape=(3,), offset=0),))
MANIFEST = build_manifest(parse_run_config(RUN), "0" * 64, (TABLE,), (), ("1" * 64,))
DIGEST = "d" * 64
SOURCE = "5" * 64
ASK = Policy(unlisted="ask", trainers={"reference": SOURCE})


def decide(
    policy: Policy = ASK,
    manifest: Manifest = MANIFEST,
    *,
    site: str = "lumi",
    consortium: str = "test",
    trainers: dict[str, str] | None = None,
) -> PolicyAnswer:
    installed = {"reference": SOURCE} if trainers is None else trainers
    return decide_manifest(policy, manifest, DIGEST, site=site, consortium=consortium, trainers=installed)


def test_an_empty_policy_declines_everything() -> None:
    answer = decide(Policy())
    assert (answer.answer, answer.reason) == (Answer.DECLINE, Reason.UNKNOWN_TRAINER)
    allowed = decide(Policy(trainers={"reference": SOURCE}))
    assert (allowed.answer, allowed.reason) == (Answer.DECLINE, Reason.POLICY)
    assert may_start(Policy(), gpu_hours_spent=0, bytes_spent=0, bytes_wanted=1).answer is Answer.DECLINE


@pytest.mark.parametrize(
    ("unlisted", "expected"), [("ask", Answer.ASK), ("accept", Answer.ACCEPT), ("decline", Answer.DECLINE)]
)
def test_what_is_not_listed(unlisted: str, expected: Answer) -> None:
    answer = decide(ASK.model_copy(update={"unlisted": unlisted}))
    assert answer.answer is expected
    assert answer.sentence.startswith("policy.toml does not list manifest dddddddddddd")


def test_a_listed_manifest_is_accepted() -> None:
    answer = decide(ASK.model_copy(update={"manifests": (DIGEST,), "unlisted": "decline"}))
    assert (answer.answer, answer.reason) == (Answer.ACCEPT, Reason.NONE)


def test_a_refused_manifest_stays_refused_even_if_listed() -> None:
    policy = ASK.model_copy(update={"manifests": (DIGEST,), "refused_manifests": (DIGEST,), "unlisted": "accept"})
    assert decide(policy).answer is Answer.DECLINE


ACCEPT_ALL = ASK.model_copy(update={"manifests": (DIGEST,), "unlisted": "accept"})


def test_no_list_lets_a_broken_manifest_through() -> None:
    hostile = replace(MANIFEST, plan=replace(MANIFEST.plan, num_inner_steps=10**9, num_rounds=0))
    answer = decide(ACCEPT_ALL, hostile)
    assert (answer.answer, answer.reason) == (Answer.DECLINE, Reason.MANIFEST_INVALID)
    assert answer.sentence == "manifest: run.num_rounds: expected 1 to 1000000, found 0 (and 1 more)"


def test_a_manifest_of_another_consortium_or_without_us() -> None:
    assert decide(ACCEPT_ALL, consortium="other").sentence == "expected a run of consortium other, found test"
    answer = decide(ACCEPT_ALL, site="mn5")
    assert answer.sentence == "expected mn5 among the run's sites, found leonardo, lumi"
    assert (answer.answer, answer.reason) == (Answer.DECLINE, Reason.POLICY)


@pytest.mark.parametrize(
    ("allowed", "installed", "sentence"),
    [
        ({"reference": SOURCE}, {}, "expected a trainer of site.toml (none), found reference"),
        ({"reference": SOURCE}, {"megatron": SOURCE}, "expected a trainer of site.toml (megatron), found reference"),
        ({}, {"reference": SOURCE}, "expected trainer reference in policy.toml, found no digest for it"),
        (
            {"reference": SOURCE},
            {"reference": "6" * 64},
            "expected trainer reference with digest 555555555555, found 666666666666 installed",
        ),
    ],
)
def test_trainers_run_only_as_allowed(allowed: dict[str, str], installed: dict[str, str], sentence: str) -> None:
    answer = decide(ACCEPT_ALL.model_copy(update={"trainers": allowed}), trainers=installed)
    assert (answer.answer, answer.reason, answer.sentence) == (Answer.DECLINE, Reason.UNKNOWN_TRAINER, sentence)


BUDGET = Policy(per_day=PerDay(gpu_hours=8.0, bytes=1000))


@pytest.mark.parametrize(
    ("hours", "size", "expected"),
    [
        ((0, 0), (0, 0), Answer.ACCEPT),
        ((4, 4), (500, 500), Answer.ACCEPT),
        ((4, 4.5), (0, 0), Answer.DECLINE),
        ((0, 0), (1000, 1), Answer.DECLINE),
        ((float("nan"), 0), (0, 0), Answer.DECLINE),
    ],
)
def test_a_days_budget(hours: tuple[float, float], size: tuple[int, int], expected: Answer) -> None:
    answer = may_start(
        BUDGET, gpu_hours_spent=hours[0], gpu_hours_wanted=hours[1], bytes_spent=size[0], bytes_wanted=size[1]
    )
    assert answer.answer is expected
    assert answer.reason is (Reason.NONE if expected is Answer.ACCEPT else Reason.BUDGET)


def test_the_budgets_sentence_has_the_arithmetic() -> None:
    answer = may_start(BUDGET, gpu_hours_spent=6, bytes_spent=0, gpu_hours_wanted=4)
    assert answer.sentence == "expected at most 8 GPU-hours within 24 hours, found 6 spent and 4 wanted"


def test_a_new_file_is_read_back(tmp_path: Path) -> None:
    (tmp_path / POLICY_FILE).write_text(policy_text("ask", {"reference": SOURCE}))
    policy = load_policy(tmp_path)
    assert policy.unlisted == "ask"
    assert policy.trainers == {"reference": SOURCE}
    assert policy.per_day.gpu_hours == 24.0
    assert decide(policy).answer is Answer.ASK


def test_a_missing_policy_is_no_permission(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.toml: expected a TOML file, found nothing"):
        load_policy(tmp_path)


def test_an_unknown_word_for_a_new_policy() -> None:
    with pytest.raises(ConfigError, match='policy: expected decline, ask or accept, found "yes"'):
        policy_text("yes", {})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('unlisted = "yes"', "policy.toml: unlisted: expected 'decline', 'ask' or 'accept', found \"yes\" (line 1)"),
        ('manifests = ["x"]', "policy.toml: manifests[1]: expected a SHA-256 digest in 64 lower-case hexadecimal"),
        ("[per_day]\ngpu_hours = -1", "policy.toml: per_day.gpu_hours: expected at least 0.0, found -1"),
        ("[per_day]\ngpu_hour = 1", "did you mean gpu_hours?"),
        ('[trainers]\nreference = "y"', "policy.toml: trainers.reference: expected a SHA-256 digest in 64"),
        ("allow_all = true", "policy.toml: allow_all: expected one of the keys manifests, "),
    ],
)
def test_a_policy_with_a_mistake_is_no_policy(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / POLICY_FILE).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_policy(tmp_path)
    assert sentence in str(caught.value)
