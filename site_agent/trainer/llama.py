# SPDX-License-Identifier: Apache-2.0
"""The reference trainer: AdamW on a byte-level Llama, the same bits in every run on one thread."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch

from federation.leaves import LanguageScore
from federation.manifest import InnerSettings, Manifest
from federation.text_split import Split
from site_agent.inner_loop.preflight import device_of_rank
from site_agent.inner_loop.seam import Float32Array, Shard, StepResult, TrainerState, shards_of
from site_agent.inner_loop.torch_state import (
    generator_state,
    load_generator_state,
    load_optimizer_state,
    optimizer_state,
)
from site_agent.jobs import WorkOrder
from site_agent.trainer.data import Bytes, SequenceSource, load_split
from site_agent.trainer.data_sources import HeldOutTokens, data_of, source_of
from site_agent.trainer.evaluate import evaluate
from site_agent.trainer.model import build_model, layers_of, trainable_parameters
from site_agent.trainer.ranks import RankShare


def make_repeatable(num_threads: int, seed: int) -> None:
    """Threads, generators and algorithms so that the same inputs give the same bits on this machine."""
    # cuBLAS reads this when its first handle is made; it does nothing on a CPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def make_optimizer(model: torch.nn.Module, inner: InnerSettings) -> torch.optim.AdamW:
    """AdamW in its plain loop: the fused and the multi-tensor variants order operations by device and version."""
    return torch.optim.AdamW(
        [p for _, p in trainable_parameters(model)],
        lr=inner.lr,
        betas=(inner.beta1, inner.beta2),
        eps=inner.eps,
        weight_decay=inner.weight_decay,
        foreach=False,
        fused=False,
    )


class LlamaTrainer:
    """Model, optimizer and data of one site behind the inner loop's seam.

    Args:
        sources: sequences of this site; a data-parallel baseline gives those of several, one batch of each per step.
        share: of this process, if the job has several ranks.
    """

    def __init__(
        self,
        manifest: Manifest,
        sources: list[SequenceSource],
        device: str = "cpu",
        share: RankShare | None = None,
    ) -> None:
        self._share = share or RankShare()
        self._share.check(manifest.trainer.batch_size)
        self.model = build_model(manifest.model).to(device)
        self._share.spread(self.model, layers_of(self.model), device)
        self._sources, self._device = sources, device
        self._inner, self._batch_size = manifest.inner, manifest.trainer.batch_size
        self._optimizer = make_optimizer(self.model, manifest.inner)

    def step(self, lr: float) -> StepResult:
        """One inner step at this learning rate: forward, backward, clip, AdamW; this rank's loss and tokens."""
        batches = [source.next_batch(self._batch_size) for source in self._sources]
        inputs_BL = torch.cat([self._share.of_batch(inputs) for inputs, _ in batches]).to(self._device)
        labels_BL = torch.cat([self._share.of_batch(labels) for _, labels in batches]).to(self._device)
        logits_NV = self.model(input_ids=inputs_BL).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits_NV, labels_BL.flatten())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._share.average_gradients(self.model.parameters())
        if self._inner.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._inner.grad_clip, foreach=False)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        return StepResult(loss=float(loss.detach()), tokens=labels_BL.numel())

    def local_shards(self) -> Iterable[Shard]:
        """Every parameter, as far as this rank holds it."""
        return shards_of(self.model)

    def state_dict(self) -> TrainerState:
        """Optimizer, generators, data cursors and what was counted up to them."""
        state = optimizer_state(self._optimizer)
        data = {
            "cursors": [source.cursor for source in self._sources],
            "language_tokens": [source.language_tokens for source in self._sources],
        }
        tensors, values = {**state.tensors, **generator_state()}, {**state.values, **data}
        return TrainerState(tensors=tensors, values=values, parts=state.parts)

    def load_state_dict(self, state: TrainerState) -> None:
        """Puts them back."""
        load_optimizer_state(self._optimizer, state)
        load_generator_state(state.tensors)
        cursors = state.values["cursors"]
        counted = state.values.get("language_tokens", [None] * len(cursors))  # earlier releases did not count
        for source, cursor, tokens in zip(self._sources, cursors, counted, strict=True):
            source.resume(cursor, tokens)

    def language_tokens(self) -> Mapping[str, int]:
        """Tokens trained on per language; {} where one of the sources does not know."""
        found: dict[str, int] = {}
        for counted in (source.language_tokens for source in self._sources):
            if counted is None:
                return {}
            for language, tokens in counted.items():
                found[language] = found.get(language, 0) + tokens
        return found


class EvaluatedModel:
    """The model that evaluations are made with, of one committed version at a time; made when the first one comes."""

    def __init__(self, manifest: Manifest, device: str = "cpu") -> None:
        self._manifest, self._device = manifest, device
        self._model: torch.nn.Module | None = None
        self._filled_for: object = None

    def filled_for(self, user: object, parameters: Callable[[], Mapping[str, Float32Array]]) -> torch.nn.Module:
        """The model with these parameters, copied again only if somebody else has used it since."""
        if self._model is None:
            # Drawing parameters that are overwritten at once must not move the generators of training.
            with torch.random.fork_rng():
                self._model = build_model(self._manifest.model).to(self._device)
        if self._filled_for is not user:
            self._filled_for = None
            self._fill(self._model, parameters())
            self._filled_for = user
        return self._model

    @torch.no_grad()
    def _fill(self, model: torch.nn.Module, parameters: Mapping[str, Float32Array]) -> None:
        for name, live in trainable_parameters(model):
            live.copy_(torch.from_numpy(parameters[name].copy()))


class HeldOutEvaluator:
    """Scores models on a site's held-out text.

    Attributes:
        model: of its own; whoever else evaluates may use it between two evaluations.
    """

    def __init__(self, manifest: Manifest, texts: Mapping[str, Bytes | HeldOutTokens], device: str = "cpu") -> None:
        self._manifest, self._texts = manifest, texts
        self.model = EvaluatedModel(manifest, device)

    def evaluate(self, parameters: Mapping[str, Float32Array]) -> Iterator[tuple[LanguageScore, ...] | None]:
        """One batch at a time; see `site_agent.trainer.evaluate.evaluate`."""
        model = self.model.filled_for(object(), lambda: parameters)
        trainer = self._manifest.trainer
        return evaluate(model, self._texts, sequence_length=trainer.sequence_length, batch_size=trainer.batch_size)


def site_source(manifest: Manifest, data_dir: Path, languages: tuple[str, ...], site: str, seed: int) -> SequenceSource:
    """Training sequences of one site; the run's seed and the site's own order its data."""
    texts = [load_split(data_dir, language, Split.TRAIN) for language in languages]
    return SequenceSource(
        texts, sequence_length=manifest.trainer.sequence_length, seed=manifest.trainer.seed + seed, site=site
    )


def for_order(manifest: Manifest, order: WorkOrder) -> tuple[LlamaTrainer, HeldOutEvaluator]:
    """Trainer and evaluator of a job.

    Raises:
        ConfigError: data or model settings do not hold.
    """
    make_repeatable(order.num_threads, order.seed)
    source = source_of(manifest, order)
    texts = data_of(order).held_out(manifest.trainer.evaluation_bytes)
    device, share = str(device_of_rank(order.device)), RankShare.here(order.parallelism)
    if device.startswith("cuda"):
        torch.cuda.set_device(torch.device(device))
    trainer = LlamaTrainer(manifest, [source], device, share)
    return trainer, HeldOutEvaluator(manifest, texts, device)
