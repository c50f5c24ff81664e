# SPDX-License-Identifier: Apache-2.0
"""A site's executable for tests: descends every parameter with momentum and noise, and misbehaves when told to.

`python toy_command.py [--mode=MODE]`. Momentum and cursor lie in the state directory. With `--count=FILE` every start
adds a byte to FILE, with `--steps=FILE` every inner step does. `ToyCommandSite` is the same arithmetic as a site of
the oracle's.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Arrays = dict[str, np.ndarray]


def toy_step(parameters: Mapping[str, np.ndarray], momentum: Arrays, cursor: int, lr: float) -> float:
    """One inner step in place; its loss."""
    loss = 0.0
    for index, name in enumerate(sorted(parameters)):
        value = parameters[name]
        phase = np.arange(value.size, dtype=np.float32) + np.float32(cursor * 13 + index)
        gradient = value * np.float32(0.25) + np.sin(phase).reshape(value.shape)
        momentum[name] = momentum[name] * np.float32(0.5) + gradient
        value -= momentum[name] * np.float32(lr)
        loss += float(np.abs(gradient).mean())
    return loss / len(parameters)


def tokens_of(cursor: int) -> int:
    """Of an inner step."""
    return 5 + cursor % 3


class ToyCommandSite:
    """For the oracle."""

    def __init__(self, parameters: Mapping[str, tuple[int, ...]]) -> None:
        self._parameters = {name: np.zeros(shape, np.float32) for name, shape in parameters.items()}
        self._momentum = {name: np.zeros(shape, np.float32) for name, shape in parameters.items()}
        self._cursor = 0

    def parameters(self) -> Mapping[str, np.ndarray]:
        """Live."""
        return self._parameters

    def step(self, lr: float) -> int:
        """One inner step; its tokens."""
        self._cursor += 1
        toy_step(self._parameters, self._momentum, self._cursor, lr)
        return tokens_of(self._cursor)


class Toy:
    """The executable's own state: read from files, written to files."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order, self.state = order, Path(order["state_dir"])
        self.parameters: Arrays = load_file(order["base"])
        self.momentum: Arrays = {name: np.zeros_like(value) for name, value in self.parameters.items()}
        self.cursor, self.done, self.tokens, self.losses = 0, 0, 0, 0.0
        if (self.state / "toy.json").exists():
            self.momentum = load_file(self.state / "deep" / "momentum.safetensors")
            saved = json.loads((self.state / "toy.json").read_text())
            self.cursor = saved["cursor"]
            if order["is_continued"]:
                self.done, self.tokens, self.losses = saved["done"], saved["tokens"], saved["losses"]
                self.parameters = load_file(self.state / "parameters.safetensors")
            else:
                (self.state / "parameters.safetensors").unlink(missing_ok=True)

    def save(self, *, with_parameters: bool) -> None:
        """In place, as careless programs do."""
        (self.state / "deep").mkdir(exist_ok=True)
        save_file(self.momentum, self.state / "deep" / "momentum.safetensors")
        if with_parameters:
            save_file(self.parameters, self.state / "parameters.safetensors")
        numbers = {"cursor": self.cursor, "done": self.done, "tokens": self.tokens, "losses": self.losses}
        (self.state / "toy.json").write_text(json.dumps(numbers))

    def train(self, options: Mapping[str, str], asked: list[int]) -> bool:
        """Whether the window is over."""
        while self.done < self.order["num_steps"]:
            if asked:
                return False
            time.sleep(float(options.get("pause", "0")))
            add_byte(options.get("steps", ""))
            self.cursor += 1
            rate = self.order["learning_rates"][self.done]
            self.losses += toy_step(self.parameters, self.momentum, self.cursor, rate)
            self.tokens, self.done = self.tokens + tokens_of(self.cursor), self.done + 1
        return True


def add_byte(path: str) -> None:
    """For who counts."""
    if path:
        with Path(path).open("a") as file:
            file.write("x")


def save_bf16(parameters: Arrays, path: Path) -> None:
    """The upper halves of the values, in the safetensors format, which numpy has no type for."""
    header, data = {}, b""
    for name, value in parameters.items():
        half = (value.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(half)]}
        data += half
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def misbehave(mode: str, toy: Toy, result: dict[str, Any]) -> None:
    """Breaks the contract in one way, after all else has been done."""
    weights, bad = Path(toy.order["weights"]), Path(toy.order["result"])
    name = sorted(toy.parameters)[0]
    match mode:
        case "nan-weights":
            toy.parameters[name].reshape(-1)[-1] = np.nan
            save_file(toy.parameters, weights)
        case "nan-loss":
            bad.write_text(json.dumps({**result, "mean_loss": float("nan")}))
        case "no-result":
            bad.unlink()
        case "no-weights":
            weights.unlink()
        case "no-json":
            bad.write_text("SECRET-CANARY {")
        case "list-json":
            bad.write_text("[1]")
        case "huge-result":
            bad.write_text(json.dumps({**result, "padding": "x" * 100_000}))
        case "wrong-steps":
            bad.write_text(json.dumps({**result, "num_steps": 1}))
        case "no-tokens":
            bad.write_text(json.dumps({**result, "tokens": 0}))
        case "text-metric":
            bad.write_text(json.dumps({**result, "metrics": {"x": "SECRET-CANARY"}}))
        case "fp16":
            save_file({n: v.astype(np.float16) for n, v in toy.parameters.items()}, weights)
        case "bf16":
            save_bf16(toy.parameters, weights)
        case "missing":
            save_file({n: v for n, v in toy.parameters.items() if n != name}, weights)
        case "extra":
            save_file({**toy.parameters, "SECRET-CANARY": np.zeros(2, np.float32)}, weights)
        case "misshaped":
            save_file({**toy.parameters, name: toy.parameters[name].reshape(-1)}, weights)
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-4])
        case "huge-header":
            weights.write_bytes((1 << 40).to_bytes(8, "little") + weights.read_bytes()[8:])
        case "sparse-huge":
            os.truncate(weights, 1 << 40)
        case "weights-link":
            other = weights.with_name("elsewhere")
            weights.rename(other)
            weights.symlink_to(other)
        case "weights-pipe":
            weights.unlink()
            os.mkfifo(weights)
        case "state-link":
            (toy.state / "link").symlink_to("/etc/passwd")
        case "exit-1":
            print("SECRET-CANARY on stderr", file=sys.stderr, flush=True)
            bad.unlink()
            sys.exit(1)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """One window."""
    options = dict(a.removeprefix("--").partition("=")[::2] for a in arguments)
    asked: list[int] = []
    if "ignore-term" in options:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif "early-end" in options:
        signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    add_byte(options.get("count", ""))
    toy = Toy(json.loads(Path(os.environ["FEDERATION_WORK_ORDER"]).read_text()))
    if not toy.train(options, asked):
        toy.save(with_parameters=True)
        return
    toy.save(with_parameters=False)
    save_file(toy.parameters, toy.order["weights"])
    steps = toy.order["num_steps"]
    result = {"num_steps": steps, "tokens": toy.tokens, "mean_loss": toy.losses / steps, "metrics": {"lr": 0.5}}
    Path(toy.order["result"]).write_text(json.dumps(result))
    misbehave(options.get("mode", ""), toy, result)


if __name__ == "__main__":
    main(sys.argv[1:])
