# SPDX-License-Identifier: Apache-2.0
"""Many small training runs for `federation bench loss`: `python -m site_agent.trainer.loss_study SPEC.json`.

Each run is a whole federation in this process: the reference trainer at every site and, between them, the oracle of the
protocol (`federation.reference`), which real federations equal to the bit. So a study needs no services, keys or disks,
and its theta is the federation's. A run whose result is there already is not repeated.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch

from federation.chunks import fragment_digest
from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, FederationError, NonFiniteUpdateError
from federation.fragments import scatter
from federation.initial_model import model_bytes, parse_tensors, to_fragments
from federation.leaves import LanguageScore
from federation.manifest import Manifest
from federation.reference import Reference, RoundResult, Vector
from federation.run_config import RunConfig, build_manifest, parse_run_config, resolve
from federation.text_split import Split
from site_agent.json_records import read_record, write_record
from site_agent.trainer.baseline import SiteData
from site_agent.trainer.data import Bytes, SequenceSource, load_split
from site_agent.trainer.evaluate import evaluate_at_once
from site_agent.trainer.init import InitSettings, initialise
from site_agent.trainer.llama import LlamaTrainer, make_repeatable
from site_agent.trainer.lr import learning_rate
from site_agent.trainer.model import trainable_parameters

_EVALUATION_BATCH: Final = 64
_STRIPPED: Final = np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One training run.

    Attributes:
        name: of the run; its result is `<name>.json`.
        run_toml: text of the run.toml that a real federation would be given.
        seed: of theta_0. The data order is seeded by `trainer.seed` and `SiteData.seed`, as in a real job.
        data_parallel: all sites' batches together in each step instead of the federation; the same tokens.
        init_from: safetensors file to start from, "" to draw theta_0.
        keep_model: write the final model to `<name>.safetensors`, for other runs to start from.
    """

    name: str
    run_toml: str
    seed: int
    data_parallel: bool = False
    init_from: str = ""
    keep_model: bool = False


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """What one process of a study does.

    Attributes:
        runs: in this order.
        sites: who trains on what, ids as in the runs' run.toml; every language is scored on its site's held-out text.
        out_dir: absolute path of the directory for the results.
        niceness: added to this process's own.
    """

    runs: tuple[StudyRun, ...]
    sites: tuple[SiteData, ...]
    out_dir: str
    num_threads: int = 1
    niceness: int = 0
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What a run left.

    Attributes:
        diverged: a loss was not finite; there are no scores then.
        num_parameters: of the model.
        tokens: trained on, all sites together.
        theta_digests: of the final model by fragment.
        scores: bits per byte of the final model on held-out text.
        text_bytes: training text by language.
        losses: mean training loss over all sites and the steps of one round (data parallel: of one H), nats per byte.
        bytes_up, bytes_down: payload bytes of all sites, and those of commits times sites; 0 for data parallel.
    """

    name: str
    diverged: bool
    num_parameters: int
    tokens: int
    seconds: float
    theta_digests: tuple[str, ...]
    scores: tuple[LanguageScore, ...]
    text_bytes: dict[str, int]
    losses: tuple[float, ...]
    bytes_up: int
    bytes_down: int


class SimulatedSite:
    """The reference trainer as the oracle wants it: numpy views of the live parameters.

    Parameters on an accelerator are seen through a copy in host memory, which goes back before the next step.
    """

    def __init__(self, trainer: LlamaTrainer) -> None:
        self.trainer = trainer
        self.losses: list[float] = []
        self.tokens = 0
        self._live = dict(trainable_parameters(trainer.model))
        self._copies: dict[str, torch.Tensor] = {}

    def parameters(self) -> Mapping[str, Vector]:
        """Writable fp32 arrays by canonical name; what is written to them holds from the next step on."""
        if not self._copies:
            self._copies = {name: p.detach().cpu() for name, p in self._live.items()}
        return {name: copy.numpy() for name, copy in self._copies.items()}

    def step(self, lr: float) -> int:
        """One inner step.

        Raises:
            NonFiniteUpdateError: training broke down.
        """
        self.upload()
        loss, tokens = self.trainer.step(lr)
        if not loss < float("inf"):
            raise NonFiniteUpdateError(f"step {len(self.losses) + 1}: expected a finite loss, found {loss}")
        self.losses.append(loss)
        self.tokens += tokens
        return tokens

    @torch.no_grad()
    def upload(self) -> None:
        """Makes what was written to `parameters` hold. A tensor on the CPU shares its memory with its view."""
        for name, copy in self._copies.items():
            if self._live[name].device.type != "cpu":
                self._live[name].copy_(copy)
        self._copies = {}


@dataclass(kw_only=True)
class Simulation:
    """One run of one study: manifest, theta_0 and sites, and what has been done."""

    run: StudyRun
    spec: StudySpec
    manifest: Manifest
    theta: list[Vector]
    sites: dict[str, SimulatedSite]
    losses: list[float]
    bytes_up: int = 0
    bytes_down: int = 0

    def train(self) -> None:
        """All steps; `theta` is the final global model then.

        Raises:
            NonFiniteUpdateError: training broke down.
        """
        if self.run.data_parallel:
            self._train_together()
        else:
            self._train_federated()

    def _train_federated(self) -> None:
        reference = Reference(self.manifest, self.theta, self.sites)
        for _ in range(self.manifest.plan.num_rounds):
            with np.errstate(all="ignore"):  # A run may break down; its next loss says so.
                result = reference.run_round()
            self._account(result)
            self.theta[result.fragment] = result.theta
            forget(reference.history, keep=self.manifest.plan.num_fragments)

    def _account(self, result: RoundResult) -> None:
        self.bytes_up += sum(map(len, result.payloads.values()))
        self.bytes_down += len(result.blob) * len(self.sites)
        self._note(len(self.losses))

    def _train_together(self) -> None:
        (site,) = self.sites.values()
        write(site, self.manifest, self.theta)
        plan = self.manifest.plan
        window = plan.num_inner_steps // plan.num_fragments
        for step in range(plan.num_rounds * window):
            site.step(learning_rate(self.manifest.inner, float(step)))
            if (step + 1) % window == 0:
                self._note(len(self.losses))
        values = site.parameters()
        self.theta = to_fragments(dict(values), self.manifest.fragments, "the trained model")

    def _note(self, number: int) -> None:
        """The mean loss of a window that has just ended."""
        plan = self.manifest.plan
        window = plan.num_inner_steps // plan.num_fragments
        recent = [loss for site in self.sites.values() for loss in site.losses[number * window :]]
        self.losses.append(float(np.mean(recent)))

    def score(self) -> tuple[LanguageScore, ...]:
        """Bits per byte of the final global model, every language on the held-out text of the site that has it."""
        site = next(iter(self.sites.values()))
        write(site, self.manifest, self.theta)
        trainer = self.manifest.trainer
        texts = {
            language: _text(data.data_dir, language, Split.HELD_OUT, trainer.evaluation_bytes)
            for data in self.spec.sites
            for language in data.languages
        }
        return evaluate_at_once(
            site.trainer.model, texts, sequence_length=trainer.sequence_length, batch_size=_EVALUATION_BATCH
        )


def forget(history: list[RoundResult], *, keep: int) -> None:
    """Drops the vectors of rounds that nothing refers to any more: all but the last `keep` (P).

    Every merge of round k - P happens before boundary k, since τ <= H - H/P.
    """
    old = len(history) - keep - 1
    if old >= 0:
        mark = history[old].blob[:1]  # whether it committed
        history[old] = replace(
            history[old], theta=_STRIPPED, momentum=_STRIPPED, residual=_STRIPPED, payloads={}, blob=mark
        )


def write(site: SimulatedSite, manifest: Manifest, theta: Sequence[Vector]) -> None:
    """Sets a site's live parameters from fragments."""
    live = site.parameters()
    for table, vector in zip(manifest.fragments, theta, strict=True):
        for name, value in scatter(table, vector).items():
            live[name][...] = value
    site.upload()


@cache
def _text(data_dir: str, language: str, split: Split, max_bytes: int | None) -> Bytes:
    return load_split(Path(data_dir), language, split, max_bytes)


def begin(run: StudyRun, spec: StudySpec) -> Simulation:
    """Draws theta_0 and builds the sites.

    Raises:
        ConfigError: run.toml, data or model do not hold.
    """
    config = parse_run_config(run.run_toml, f"{run.name}: run.toml")
    manifest, theta = make_manifest(config, run.seed, run.init_from)
    sources = {site.site: _source(manifest, site) for site in spec.sites}
    groups = {"all": list(sources.values())} if run.data_parallel else {name: [s] for name, s in sources.items()}
    make_repeatable(spec.num_threads, run.seed)
    sites = {name: SimulatedSite(LlamaTrainer(manifest, group, spec.device)) for name, group in groups.items()}
    return Simulation(run=run, spec=spec, manifest=manifest, theta=theta, sites=sites, losses=[])


def make_manifest(config: RunConfig, seed: int, init_from: str = "") -> tuple[Manifest, list[Vector]]:
    """The manifest that `run create` makes of this run.toml and of theta_0, and theta_0: drawn or from a file.

    Raises:
        ConfigError: they break a rule.
    """
    draft = resolve(config)
    settings = InitSettings(model=draft.model, num_fragments=draft.plan.num_fragments, seed=seed, init_from=init_from)
    data, drawn = initialise(settings)
    manifest = build_manifest(config, drawn.theta_blob, drawn.fragments, drawn.aliases, drawn.theta_digests)
    return manifest, to_fragments(parse_tensors(data, "theta_0"), manifest.fragments, "theta_0")


def _source(manifest: Manifest, data: SiteData) -> SequenceSource:
    """As `site_agent.trainer.llama.site_source`, but each text is read once per process."""
    texts = [_text(data.data_dir, language, Split.TRAIN, None) for language in data.languages]
    settings = manifest.trainer
    seed = settings.seed + data.seed
    return SequenceSource(texts, sequence_length=settings.sequence_length, seed=seed, site=data.site)


def perform(run: StudyRun, spec: StudySpec) -> tuple[StudyResult, bytes]:
    """One run from theta_0 to its scores, and the final model as safetensors bytes.

    Raises:
        ConfigError: run.toml, data or model do not hold.
    """
    began = time.process_time()
    simulation = begin(run, spec)
    try:
        simulation.train()
        scores: tuple[LanguageScore, ...] = simulation.score()
        diverged = not all(np.isfinite(score.bits_per_byte) for score in scores)
    except NonFiniteUpdateError as error:
        logging.warning("%s: %s", run.name, error)
        scores, diverged = (), True
    return _result(simulation, scores, diverged, began), model_bytes(simulation.manifest, simulation.theta)


def _result(simulation: Simulation, scores: tuple[LanguageScore, ...], diverged: bool, began: float) -> StudyResult:
    spec = simulation.spec
    return StudyResult(
        name=simulation.run.name,
        diverged=diverged,
        num_parameters=sum(table.num_elements for table in simulation.manifest.fragments),
        tokens=sum(site.tokens for site in simulation.sites.values()),
        seconds=round(time.process_time() - began, 3),
        theta_digests=() if diverged else tuple(map(fragment_digest, simulation.theta)),
        scores=() if diverged else scores,
        text_bytes={
            language: _text(data.data_dir, language, Split.TRAIN, None).size
            for data in spec.sites
            for language in data.languages
        },
        losses=tuple(simulation.losses),
        bytes_up=simulation.bytes_up,
        bytes_down=simulation.bytes_down,
    )


def pending(runs: Iterable[StudyRun], fs: RealFileSystem) -> list[StudyRun]:
    """Runs without a result."""
    return [run for run in runs if not fs.exists(f"{run.name}.json")]


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if len(arguments) != 1:
        print("usage: python -m site_agent.trainer.loss_study SPEC.json", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    try:
        spec = read_record(RealFileSystem(path.parent), path.name, StudySpec)
        if spec is None:
            raise ConfigError(f"{path}: expected a study's specification, found no file")
        os.nice(spec.niceness)
        fs = RealFileSystem(Path(spec.out_dir))
        for run in pending(spec.runs, fs):
            result, model = perform(run, spec)
            if run.keep_model:
                fs.write(f"{run.name}.safetensors", model)
            write_record(fs, f"{run.name}.json", result)
            logging.info("%s: %.0f s", run.name, result.seconds)
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
