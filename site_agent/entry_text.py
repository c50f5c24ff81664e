# SPDX-License-Identifier: Apache-2.0
"""Journal entries as one human sentence each, for the log."""

from functools import singledispatch

from federation.durations import count, in_words
from federation.ids import short
from site_agent import entries as je


@singledispatch
def sentence(entry: object) -> str:
    """What an entry says, in words."""
    return type(entry).__name__


@sentence.register
def _(entry: je.EpochBegan) -> str:
    return f"epoch {entry.epoch} began"


@sentence.register
def _(entry: je.ManifestAnswered) -> str:
    who = "this site's operator" if entry.by_human else "this site's policy"
    answer = "accepted" if entry.accepted else f"declined ({entry.reason.value})"
    return f"run {entry.run}: {who} {answer} manifest {short(entry.manifest_digest)}: {entry.sentence}"


@sentence.register
def _(entry: je.AllocationIntended) -> str:
    purpose = "to evaluate" if entry.evaluate_only else "to train"
    later = f", not before {in_words(entry.begin_after_seconds)} are over" if entry.begin_after_seconds else ""
    return f"run {entry.run}: job a{entry.number} is to be started {purpose}{later}"


@sentence.register
def _(entry: je.AllocationSubmitted) -> str:
    return f"run {entry.run}: job a{entry.number} was started, the launcher calls it {entry.handle}"


@sentence.register
def _(entry: je.AllocationStopped) -> str:
    return f"run {entry.run}: job a{entry.number} was told to end: {entry.reason}"


@sentence.register
def _(entry: je.AllocationEnded) -> str:
    word = "FAILED" if entry.failed else "ended"
    return f"run {entry.run}: job a{entry.number} {word}: {': '.join(filter(None, (entry.reason, entry.sentence)))}"


@sentence.register
def _(entry: je.AllocationAccounted) -> str:
    used = f"{entry.elapsed_seconds:.0f} seconds on {count(entry.num_gpus, 'GPU')}"
    return f"run {entry.run}: job a{entry.number} used {used}, by the batch system's accounts"


@sentence.register
def _(entry: je.RoundIssued) -> str:
    return f"run {entry.run} round {entry.round}: job a{entry.allocation} may train it"


@sentence.register
def _(entry: je.UpdateSigned) -> str:
    update = entry.update
    what = f"update {short(update.payload_digest)} of {update.payload_bytes} bytes"
    return f"run {update.run} round {update.round}: signed {what}, fragment {update.fragment}, job {update.allocation}"


@sentence.register
def _(entry: je.RoundRefused) -> str:
    return f"run {entry.run} round {entry.round}: no update from here ({entry.reason.value}): {entry.sentence}"


@sentence.register
def _(entry: je.EvaluationSigned) -> str:
    found = entry.evaluation
    scores = ", ".join(f"{score.language} {score.bits_per_byte:.3f}" for score in found.scores)
    return f"run {found.run}: signed an evaluation of the model of {found.num_commits} commits, bits per byte: {scores}"


@sentence.register
def _(entry: je.TasksSigned) -> str:
    found = entry.evaluation
    scores, model = count(len(found.scores), "task score"), f"the model of {count(found.num_commits, 'commit')}"
    return f"run {found.run}: {scores} of {model}" + "".join(f"; not scored: {problem}" for problem in entry.problems)


@sentence.register
def _(entry: je.Cosigned) -> str:
    return f"the ledger of {entry.size} leaves is cosigned, root {short(entry.root)}"


@sentence.register
def _(entry: je.Posted) -> str:
    return f"message {entry.key} lies in the mailbox"


@sentence.register
def _(entry: je.PayloadDropped) -> str:
    return f"run {entry.run} round {entry.round}: its payload is no longer kept"
