# SPDX-License-Identifier: Apache-2.0
"""`site-agent policy check`: what policy.toml comes to, now and for each run that this site knows."""

import dataclasses
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click

from federation.blobs.store import BlobStore
from federation.durable.api import FileSystem
from federation.durable.real import RealFileSystem
from federation.ids import is_digest
from federation.leaves import Reason
from federation.limits import DEFAULT_LIMITS
from federation.rounds import Run
from site_agent import derived, layout
from site_agent.answers import answer_of
from site_agent.books import Books, read_books
from site_agent.cli.setup import AS_JSON, SITE_DIR, echo
from site_agent.manifests import ManifestJudge, origin_of
from site_agent.observations import Answer, HumanAnswer, ManifestSeen
from site_agent.policy import POLICY_FILE, load_policy
from site_agent.policy_words import RunWords, policy_words, run_line, unknown_operators
from site_agent.setup import load_rosters
from site_agent.site_config import load_site_config
from site_agent.site_policy import judge_of


@click.group()
def policy() -> None:
    """What this site lets be done with its machines."""


@policy.command("check")
@click.argument("site_dir", type=SITE_DIR)
@AS_JSON
def policy_check(site_dir: Path, as_json: bool) -> None:
    """Says in words what policy.toml lets happen now, and what it answers to each run and why. Changes nothing.

    A serving agent takes a changed file over within one pass, but for one with mistakes, which this command names.
    """
    fs, now_us = RealFileSystem(site_dir), time.time_ns() // 1000
    config, found = load_site_config(site_dir), load_policy(site_dir)
    rosters = load_rosters(fs, now_us)
    judge = judge_of(config, found, rosters.current.consortium)
    runs = _runs(fs, judge, read_books(fs, rosters), now_us)
    says = policy_words(found, judge.unit, datetime.fromtimestamp(now_us / 1e6, UTC))
    warnings = unknown_operators(found, rosters.current)
    facts = {
        "site": config.site,
        "policy": says,
        "warnings": warnings,
        "trainers": dict(judge.trainers),
        "runs": [dataclasses.asdict(item) for item in runs],
    }
    installed = [f"trainer {name} as it is installed: {digest}" for name, digest in sorted(judge.trainers.items())]
    lines = [f"{POLICY_FILE} of site {config.site}:", *(f"  {line}" for line in says)]
    lines += [f"  WARNING: {line}" for line in warnings]
    lines += [f"  {line}" for line in installed]
    lines += [run_line(item) for item in runs] or ["No run names this site yet."]
    echo(facts, "\n".join(lines), as_json)


def _runs(fs: FileSystem, judge: ManifestJudge, books: Books, now_us: int) -> list[RunWords]:
    blobs = BlobStore(fs, layout.BLOBS)
    runs = derived.runs_of(books.federation, judge.site)
    return [_words(run, blobs, judge, books, now_us, answer_of(fs, run.id)) for run in runs]


def _with_human(seen: ManifestSeen, human: HumanAnswer) -> ManifestSeen:
    """The operator's no wins over everything, the yes to this very manifest over whatever is left to a person."""
    if human.accepted is False:
        return replace(seen, answer=Answer.DECLINE, reason=Reason.POLICY, sentence="the site's operator refused it")
    if human.accepted and human.manifest_digest == seen.digest and seen.answer is not Answer.DECLINE:
        return replace(seen, answer=Answer.ACCEPT, sentence="the site's operator accepted this manifest")
    return seen


def _words(run: Run, blobs: BlobStore, judge: ManifestJudge, books: Books, now_us: int, human: HumanAnswer) -> RunWords:
    if not is_digest(run.manifest_digest) or not blobs.has(run.manifest_digest):
        missing = "its manifest has not arrived yet"
        return RunWords(run=run.id, answer="", reason="", sentence=missing, start="", stop="", data_sets=())
    data = blobs.read(run.manifest_digest, max_bytes=DEFAULT_LIMITS.max_manifest_bytes)
    seen = judge.judge(run, data, origin_of(books.federation, run))
    seen = _with_human(judge.today(seen, books.state, now_us), human)
    return RunWords(
        run=run.id,
        answer=seen.answer.value,
        reason=seen.reason.value,
        sentence=seen.sentence,
        start=seen.shortage,
        stop=seen.stop_sentence,
        data_sets=seen.data_sets,
    )
