# SPDX-License-Identifier: Apache-2.0
"""Hugging Face's `Trainer` inside a run: `python -m huggingface_trainer ALLOCATION_DIR`.

`Trainer` owns the loop; so a callback tells the session of each step and ends the training when the session is over.
The learning rate is the run's: the session sets it in the optimizer, and the scheduler that `Trainer` wants does
nothing. Training checkpoints are the session's: `Trainer` saves none.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from federation.errors import FederationError
from site_agent.inner_loop import Session, join

SEQUENCE = 16
BATCH = 4


def build_model() -> torch.nn.Module:
    """A small Llama over bytes, in fp32, with dropout."""
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=256,
        max_position_embeddings=SEQUENCE,
        tie_word_embeddings=True,
        attention_dropout=0.1,
        attn_implementation="eager",
        use_cache=False,
    )
    return LlamaForCausalLM(config).to(torch.float32)


class Texts(IterableDataset):
    """Sequences of the site's texts without an end, from where training stands.

    A loader reads ahead; so not what was drawn counts, but what was trained: `num_trained`, kept by the callback.
    """

    def __init__(self, data_dir: Path, languages: list[str]) -> None:
        data = b"".join((data_dir / f"{language}.txt").read_bytes() for language in languages)
        self._bytes = torch.frombuffer(bytearray(data), dtype=torch.uint8).long()
        self.num_trained = 0

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        number = self.num_trained
        while True:
            start = number * SEQUENCE % (len(self._bytes) - SEQUENCE)
            tokens = self._bytes[start : start + SEQUENCE]
            yield {"input_ids": tokens, "labels": tokens}
            number += 1

    def state_dict(self) -> Any:
        """JSON values."""
        return {"num_trained": self.num_trained}

    def load_state_dict(self, state: Any) -> None:
        """Puts it back."""
        self.num_trained = state["num_trained"]


class NoSchedule(torch.optim.lr_scheduler.LRScheduler):
    """Leaves the learning rate to the session."""

    def get_lr(self) -> list[float]:
        """What is set already."""
        return [group["lr"] for group in self.optimizer.param_groups]


class RunTrainer(Trainer):
    """Keeps the loss and the tokens of the step; data loading draws from a generator of its own.

    A loader that drew from torch's global generator would, after a restart, move the dropout that follows.
    """

    loss, tokens = 0.0, 0

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        """One forward and backward pass; with gradient accumulation there are several to a step."""
        result = super().training_step(model, inputs, *arguments, **named)
        self.loss += float(result)
        self.tokens += inputs["labels"].numel()
        return result

    def get_train_dataloader(self) -> DataLoader:
        """A plain one."""
        return DataLoader(self.train_dataset, batch_size=BATCH, generator=torch.Generator())


class InRun(TrainerCallback):
    """After each optimizer step: tells the session, which waits, exchanges and sets the next learning rate."""

    def __init__(self, session: Session, texts: Texts) -> None:
        self.session, self.texts = session, texts
        self.trainer: RunTrainer | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Called by `Trainer`."""
        trainer = self.trainer
        assert trainer is not None
        self.texts.num_trained += args.per_device_train_batch_size * args.gradient_accumulation_steps
        loss, tokens, trainer.loss, trainer.tokens = trainer.loss, trainer.tokens, 0.0, 0
        self.session.step(loss, tokens)
        control.should_training_stop = not self.session.running


def train(allocation: Path) -> None:
    """Until the session says that it is over."""
    order = json.loads((allocation / "order.json").read_text())
    torch.set_num_threads(order["num_threads"])
    arguments = TrainingArguments(
        output_dir=str(allocation / "trainer"),
        per_device_train_batch_size=BATCH,
        max_steps=10**9,  # the session ends it
        max_grad_norm=1.0,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=order["device"] == "cpu",
        seed=order["seed"],
    )
    torch.manual_seed(order["seed"])
    model, texts = build_model(), Texts(Path(order["data_dir"]), order["languages"])
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    optimizers = (optimizer, NoSchedule(optimizer))
    trainer = RunTrainer(model=model, args=arguments, train_dataset=texts, optimizers=optimizers)
    # Last: `Trainer` seeds torch's generators when it is made, `join` puts back those of a training checkpoint.
    session = join(model, optimizer, state=texts, allocation=allocation)
    callback = InRun(session, texts)
    callback.trainer = trainer
    trainer.add_callback(callback)
    if session.running:
        trainer.train()


def main(arguments: list[str]) -> int:
    """The process's exit status. A reason is already in the allocation's `ended.json`."""
    try:
        train(Path(arguments[0]))
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
