#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An executable of the command trainer: a bigram model of bytes in numpy. It knows nothing of the federation.

Reads the work order named by FEDERATION_WORK_ORDER, trains one window from `base` on, keeps its momentum and its place
in the texts in `state_dir`, and leaves `weights` and `result`. Asked to end early (SIGTERM), it writes what it needs to
go on into `state_dir` and ends with exit status 0 and without a result.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

NAME = "bigram.weight"
BATCH_BYTES = 512
MOMENTUM = np.float32(0.9)


class Window:
    """One window: its order, the parameters, and everything that the next step depends on."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order, self.state_dir = order, Path(order["state_dir"])
        self.weights = load_file(order["base"])[NAME]
        self.momentum = np.zeros_like(self.weights)
        self.texts = np.frombuffer(
            b"".join((Path(order["data_dir"]) / f"{language}.txt").read_bytes() for language in order["languages"]),
            np.uint8,
        )
        self.numbers = {"position": 0, "step": 0, "loss": 0.0, "tokens": 0}
        if (self.state_dir / "numbers.json").exists():
            self._load()

    def _load(self) -> None:
        saved = load_file(self.state_dir / "state.safetensors")
        numbers = json.loads((self.state_dir / "numbers.json").read_text())
        self.momentum = saved["momentum"]
        self.numbers["position"] = numbers["position"]
        if self.order["is_continued"]:  # an earlier piece of this same window: its parameters count, not the base
            self.weights, self.numbers = saved["weights"], numbers

    def save(self) -> None:
        """Everything into `state_dir`; the job copies it before it starts this program, and adopts it afterwards."""
        save_file({"momentum": self.momentum, "weights": self.weights}, self.state_dir / "state.safetensors")
        (self.state_dir / "numbers.json").write_text(json.dumps(self.numbers))

    def step(self) -> None:
        """Momentum descent on one batch, at the learning rate that the order has for this step."""
        start = int(self.numbers["position"]) % (self.texts.size - BATCH_BYTES - 1)
        before, after = self.texts[start : start + BATCH_BYTES], self.texts[start + 1 : start + BATCH_BYTES + 1]
        loss, gradient = loss_and_gradient(self.weights, before, after)
        rate = np.float32(self.order["learning_rates"][self.numbers["step"]])
        self.momentum = MOMENTUM * self.momentum + gradient
        self.weights = self.weights - rate * self.momentum
        self.numbers["position"] += BATCH_BYTES
        self.numbers["step"] += 1
        self.numbers["loss"] += loss
        self.numbers["tokens"] += BATCH_BYTES

    def finish(self) -> None:
        """What the job takes over. The weights first: a result says that all is there."""
        save_file({NAME: self.weights}, self.order["weights"])
        steps = self.numbers["step"]
        result = {
            "num_steps": steps,
            "tokens": self.numbers["tokens"],
            "mean_loss": self.numbers["loss"] / steps,
            "metrics": {"momentum_norm": float(np.linalg.norm(self.momentum))},
        }
        self.numbers.update(step=0, loss=0.0, tokens=0)
        self.save()
        Path(self.order["result"]).write_text(json.dumps(result))


def loss_and_gradient(weights: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[float, np.ndarray]:
    """Cross-entropy in nats per byte of f32[256, 256] logits by preceding byte, and its gradient."""
    logits = weights[before]
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    rows = np.arange(before.size)
    loss = float(-np.log(probabilities[rows, after]).mean())
    probabilities[rows, after] -= 1
    gradient = np.zeros_like(weights)
    np.add.at(gradient, before, probabilities / np.float32(before.size))
    return loss, gradient


def main() -> int:
    """One window, or the part of it that there was time for."""
    asked_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked_to_end.append(number))
    window = Window(json.loads(Path(os.environ["FEDERATION_WORK_ORDER"]).read_text()))
    while window.numbers["step"] < window.order["num_steps"]:
        if asked_to_end:
            window.save()
            return 0
        window.step()
    window.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
