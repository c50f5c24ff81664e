# SPDX-License-Identifier: Apache-2.0
"""Every failure has a code, a sentence, an advice, and a word on whether another try can help."""

import pytest

from site_agent import failures
from site_agent.failures import Retry, code_of_error, code_of_state, failure_of, retry_of
from site_agent.jobs import EndCode
from site_agent.launcher.slurm import refusals
from site_agent.launcher.slurm.states import ENDED_STATES

TABLES = {**failures.LAUNCH, **failures.BATCH, **failures.JOB}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("unknown-partition", Retry.WAIT_FOR_HUMAN),
        ("unknown-account", Retry.WAIT_FOR_HUMAN),
        ("wall-time-limit", Retry.WAIT_FOR_HUMAN),
        ("account-exhausted", Retry.WAIT_FOR_HUMAN),
        ("module-missing", Retry.WAIT_FOR_HUMAN),
        ("no-space", Retry.WAIT_FOR_HUMAN),
        ("wrong-precision", Retry.WAIT_FOR_HUMAN),
        ("stale-file-handle", Retry.BACKOFF),
        ("limit-exceeded", Retry.BACKOFF),
        ("trainer-exit", Retry.BACKOFF),
        ("non-finite", Retry.BACKOFF),
        ("no-result", Retry.BACKOFF),
        ("node-fail", Retry.BACKOFF),
        ("rank-lost", Retry.BACKOFF),
        ("preempted", Retry.BACKOFF),
        ("timeout", Retry.BACKOFF),
        ("model-differs", Retry.NEVER),
        ("of-another-release", Retry.BACKOFF),
        ("wall-time", Retry.BACKOFF),
    ],
)
def test_whether_another_try_can_help(code: str, expected: Retry) -> None:
    assert retry_of(code) is expected


@pytest.mark.parametrize("code", sorted(TABLES))
def test_every_code_says_what_happened_and_what_to_do(code: str) -> None:
    found = failure_of(code)
    assert found.sentence
    assert found.sentence[0].islower() or found.sentence[0].isupper()
    assert not found.sentence.endswith(".")
    assert found.advice.endswith(".")
    assert ("run retry" in found.advice) is (found.retry is Retry.WAIT_FOR_HUMAN)


def test_every_end_of_a_job_and_of_the_batch_system_is_known() -> None:
    assert {code.value for code in EndCode} <= failures.JOB.keys() | failures.NO_FAILURE
    assert {code.value for code in EndCode if code.resumable} <= failures.NO_FAILURE
    states = {state: code_of_state(state) for state in ENDED_STATES}
    assert {state for state, code in states.items() if code == "killed"} <= {"FAILED", "LAUNCH_FAILED"}


def test_every_refusal_of_sbatch_is_known() -> None:
    codes = {refusal.code for _, refusal in refusals._REFUSALS}
    assert codes <= failures.LAUNCH.keys()


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        ("OSError", "OSError: [Errno 28] No space left on device", "no-space"),
        ("OSError", "OSError: [Errno 122] Disk quota exceeded", "no-space"),
        ("OSError", "OSError: [Errno 116] Stale file handle", "stale-file-handle"),
        ("DiskFullError", "spool: 3 bytes left", "no-space"),
        ("ModuleNotFoundError", "ModuleNotFoundError: No module named 'apex'", "module-missing"),
        ("CommandFailedError", "command trainer: expected exit status 0, found exit status 1", "trainer-exit"),
        ("CommandFailedError", "result.json: expected the executable to leave this file", "no-result"),
        ("RankLostError", "rank 0: expected answers of all 2 ranks, found rank 1 gone", "rank-lost"),
        ("ZeroDivisionError", "ZeroDivisionError: division by zero", "failed"),
    ],
)
def test_a_last_word_is_made_finer_by_its_error(error: str, sentence: str, code: str) -> None:
    assert code_of_error("failed", error, sentence) == code


def test_weights_of_another_precision_are_no_other_model() -> None:
    sentence = "weights.safetensors: expected fp32 tensors in one whole safetensors file, found dtype BF16"
    assert code_of_error("model-differs", "ModelDiffersError", sentence) == "wrong-precision"
    assert code_of_error("model-differs", "ModelDiffersError", "expected 3 tensors, found 4") == "model-differs"
    assert code_of_error("diverged", "OSError", "No space left on device") == "diverged"


@pytest.mark.parametrize(
    ("state", "exit_code", "code"),
    [
        ("FAILED", "1:0", "failed-early"),
        ("FAILED", "72:0", "module-missing"),
        ("OUT_OF_MEMORY", "0:125", "out-of-memory"),
        ("A_STATE_OF_TOMORROW", "0:0", "killed"),
        ("", "", "killed"),
    ],
)
def test_a_batch_systems_word_is_a_code(state: str, exit_code: str, code: str) -> None:
    assert code_of_state(state, exit_code) == code
