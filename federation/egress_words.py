# SPDX-License-Identifier: Apache-2.0
"""The words that may leave a site: fixed sentences with numbers in them, and the figures of step metrics.

A sentence for people that came from a job, a file or a policy can quote a path, a data set's name or a line of text.
Such a sentence stays in the site's log and status; what goes out in its place has the same reason code.
"""

import json
import re
from math import isfinite
from typing import Any, Final

from federation.leaves import Reason

_NUMBER: Final = r"[0-9][0-9.e+-]{0,20}"
_SHORT_DIGEST: Final = r"[0-9a-f]{12}"

_TEMPLATES: Final = (
    "the site's operator refused this run",
    "the site's operator accepted this manifest",
    "run id or manifest digest is malformed",
    "the manifest is of another run, or its plan differs from the ledger's",
    "policy.toml lists manifest {digest}",
    "policy.toml refuses manifest {digest}",
    "policy.toml does not list manifest {digest} and accepts such",
    "policy.toml does not list manifest {digest} and declines such",
    "the site does not take part in this run",
    "{number} jobs failed in a row, at most {number}",
    "expected at most {number} GPU-hours within 24 hours, found {number} spent and {number} wanted",
    "expected at most {number} bytes within 24 hours, found {number} spent and {number} wanted",
    "expected at most {number} GPU-hours for this run, found {number} spent and {number} wanted",
    "this site begins from a later version than the round does",
    "the job has entered round {number} already",
    "the job is gone without a last word",
)
"""Sentences that go out as they are: all words are ours, and what varies are numbers and short digests."""

STOCK: Final = {
    Reason.NONE: "the site's policy accepts this manifest",
    Reason.WRONG_ROUND: "the job's update is of another round",
    Reason.WRONG_FRAGMENT: "the job's update is of another fragment",
    Reason.WRONG_MANIFEST: "the job's update is of another manifest",
    Reason.STALE_BASE: "the job's update is of another base",
    Reason.NOT_INVITED: "the site was not invited",
    Reason.WRONG_ALLOCATION: "the update is of another allocation",
    Reason.WRONG_CODEC: "the job's update has another codec",
    Reason.WRONG_STEPS: "the job took another number of inner steps",
    Reason.WRONG_TOKENS: "the job counted impossible tokens",
    Reason.WRONG_LENGTH: "the job's payload has another length",
    Reason.PAYLOAD_DIGEST: "the job's payload has another digest",
    Reason.MALFORMED_PAYLOAD: "the job's payload is malformed",
    Reason.NON_FINITE: "the job met a value that is not finite",
    Reason.NORM_TOO_LARGE: "the norm of the job's update is too large",
    Reason.SECOND_DIGEST: "the job wrote a second, different update",
    Reason.LATE: "the site cannot take part in this round any more",
    Reason.NO_ANSWER: "the site did not answer",
    Reason.TRAINING_TOO_LONG: "training took too long",
    Reason.UPLOAD_TOO_LONG: "the upload took too long",
    Reason.ROUND_TOO_LONG: "the round took too long",
    Reason.JOB_FAILED: "a job of this site failed; the site's log says why",
    Reason.LOSS_SPIKE: "the loss left the range that the run allows",
    Reason.DIVERGED: "the job's parameters differ from the ledger's",
    Reason.REVOKED: "the site was revoked",
    Reason.POLICY: "the site's policy declines this; the site's log says why",
    Reason.MANIFEST_INVALID: "the manifest breaks a rule; the site's log says which",
    Reason.MODEL_DIFFERS: "the trainer's model is not the manifest's",
    Reason.UNKNOWN_TRAINER: "the site has no such trainer, or does not allow it",
    Reason.BUDGET: "the site's budget has no room for a further job",
    Reason.NO_QUORUM: "there is no quorum",
    Reason.OPERATOR: "the site's operator decided so",
    Reason.REVERTED: "the round was reverted",
    Reason.COULD_NOT_OPEN: "the round could not open",
    Reason.ABANDONED_TOO_OFTEN: "too many rounds were abandoned",
    Reason.WITNESSES_SILENT: "the witnesses are silent",
    Reason.DISK_FULL: "the site has too little disk space",
}
"""What goes out for a reason in place of a sentence that is not one of ours. Total over the reasons."""

_METRICS: Final = frozenset({"num_steps", "round", "step", "loss", "tokens", "seconds", "fencing"})
_NO_REASON: Final = "the site's log says why"


def _pattern(template: str) -> str:
    parts = re.split(r"(\{number\}|\{digest\})", template)
    named = {"{number}": _NUMBER, "{digest}": _SHORT_DIGEST}
    return "".join(named.get(part) or re.escape(part) for part in parts)


_SENTENCE: Final = re.compile("|".join([*map(_pattern, _TEMPLATES), *map(re.escape, (*STOCK.values(), _NO_REASON))]))


def is_our_sentence(text: str) -> bool:
    """Whether all words are of this module: nothing in it can come from data, files or exceptions."""
    return text == "" or _SENTENCE.fullmatch(text) is not None


def outgoing_sentence(reason: Reason, local: str = "") -> str:
    """What goes out beside a reason code.

    Args:
        local: the sentence that this site's log has; it goes out only if all its words are of this module.
    """
    return local if local and is_our_sentence(local) else STOCK.get(reason, _NO_REASON)


def metric_line(line: str) -> str:
    """A line of step metrics with the known figures only, written anew; "" if it has none.

    A program of the site's own may log anything: texts, and figures under names of its own, stay here.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    kept = {key: found[key] for key in sorted(_METRICS & found.keys())} if isinstance(found, dict) else {}
    figures = {key: value for key, value in kept.items() if _is_figure(value)}
    return json.dumps(figures) if figures else ""


def _is_figure(value: Any) -> bool:
    """A count below 2^63 or a finite number; larger ones could spell something."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**63 if isinstance(value, int) else isfinite(value)
