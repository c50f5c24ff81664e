# SPDX-License-Identifier: Apache-2.0
"""What a federation is compared with: `python -m site_agent.trainer.baseline SPEC.json`.

One site alone (a spec with one site), or all sites' batches together in every step (data parallel: what a fast network
between them would allow). Same model, theta_0, optimizer, schedule, data order and steps per site as in the run, so a
data-parallel run sees exactly the tokens of the federation.
"""

import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, FederationError, NonFiniteUpdateError
from federation.leaves import LanguageScore
from federation.manifest import Manifest
from federation.wire import manifest_from_bytes
from site_agent.inner_loop.global_model import read_theta0
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.json_records import read_record, write_record
from site_agent.trainer.evaluate import evaluate_at_once, held_out_texts
from site_agent.trainer.llama import LlamaTrainer, make_repeatable, site_source
from site_agent.trainer.lr import learning_rate

_LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True)
class SiteData:
    """Text of one site; `site` and `seed` as in its work orders, so that the data order is the same."""

    site: str
    data_dir: str
    languages: tuple[str, ...]
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class BaselineSpec:
    """One baseline.

    Attributes:
        name: for the result.
        sites: one for an isolated site, all of them for data parallel.
        evaluation: held-out text to score at the end; the budget per language is the manifest's.
        num_steps: inner steps, each with one batch of every site.
        result_path: absolute path of the `BaselineResult` to write.
    """

    name: str
    manifest_path: str
    theta0_path: str
    sites: tuple[SiteData, ...]
    evaluation: tuple[SiteData, ...]
    num_steps: int
    result_path: str
    num_threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class BaselineResult:
    """Scores after training, and what it took. `losses` has the mean loss of each step, nats per byte."""

    name: str
    sites: tuple[str, ...]
    num_steps: int
    tokens: int
    seconds: float
    losses: tuple[float, ...]
    scores: tuple[LanguageScore, ...]


def train_baseline(spec: BaselineSpec, manifest: Manifest) -> BaselineResult:
    """Trains and scores.

    Raises:
        ConfigError: data, model or theta_0 do not hold.
        NonFiniteUpdateError: training broke down.
    """
    began = time.monotonic()
    make_repeatable(spec.num_threads, spec.sites[0].seed)
    sources = [site_source(manifest, Path(s.data_dir), s.languages, s.site, s.seed) for s in spec.sites]
    trainer = LlamaTrainer(manifest, sources, spec.device)
    local = LocalParameters(trainer.local_shards, manifest.fragments)
    for fragment, theta in enumerate(read_theta0(Path(spec.theta0_path), manifest)):
        local.write(fragment, theta)
    losses, tokens = _train(trainer, manifest, spec.num_steps)
    return BaselineResult(
        name=spec.name,
        sites=tuple(s.site for s in spec.sites),
        num_steps=spec.num_steps,
        tokens=tokens,
        seconds=round(time.monotonic() - began, 3),
        losses=losses,
        scores=_score(trainer, manifest, spec.evaluation),
    )


def _train(trainer: LlamaTrainer, manifest: Manifest, num_steps: int) -> tuple[tuple[float, ...], int]:
    losses, tokens = [], 0
    for step in range(num_steps):
        loss, count = trainer.step(learning_rate(manifest.inner, float(step)))
        if not loss < float("inf"):
            raise NonFiniteUpdateError(f"step {step + 1}: expected a finite loss, found {loss}")
        losses.append(loss)
        tokens += count
        if (step + 1) % _LOG_EVERY == 0:
            logging.info("step %d of %d: loss %.4f", step + 1, num_steps, loss)
    return tuple(losses), tokens


def _score(trainer: LlamaTrainer, manifest: Manifest, sites: tuple[SiteData, ...]) -> tuple[LanguageScore, ...]:
    settings = manifest.trainer
    scores: list[LanguageScore] = []
    for site in sites:
        texts = held_out_texts(Path(site.data_dir), site.languages, settings.evaluation_bytes)
        scores += evaluate_at_once(
            trainer.model, texts, sequence_length=settings.sequence_length, batch_size=settings.batch_size
        )
    return tuple(sorted(scores, key=lambda score: score.language))


def _read_spec(path: Path) -> tuple[BaselineSpec, Manifest]:
    spec = read_record(RealFileSystem(path.parent), path.name, BaselineSpec)
    if spec is None or not spec.sites:
        raise ConfigError(f"{path}: expected a baseline's specification with at least one site, found none")
    try:
        return spec, manifest_from_bytes(Path(spec.manifest_path).read_bytes())
    except OSError as error:
        raise ConfigError(f"{spec.manifest_path}: expected a manifest, found: {error.strerror}") from error


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if len(arguments) != 1:
        print("usage: python -m site_agent.trainer.baseline SPEC.json", file=sys.stderr)
        return 2
    try:
        spec, manifest = _read_spec(Path(arguments[0]))
        result = train_baseline(spec, manifest)
        target = Path(spec.result_path)
        write_record(RealFileSystem(target.parent), target.name, result)
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
