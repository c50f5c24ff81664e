# SPDX-License-Identifier: Apache-2.0
"""State of torch optimizers and generators as named tensors and JSON values: no pickle."""

from collections.abc import Mapping
from typing import Any

import torch

from federation.errors import ProtocolError
from site_agent.inner_loop.seam import TrainerState

_OPTIMIZER = "optimizer."
_GENERATOR = "generator."


def optimizer_state(optimizer: torch.optim.Optimizer) -> TrainerState:
    """A copy of an optimizer's buffers and counters; hyperparameters are the program's, the rate is the schedule's."""
    tensors, values = {}, {}
    for index, buffers in optimizer.state_dict()["state"].items():
        for name, value in buffers.items():
            key = f"{_OPTIMIZER}{index}.{name}"
            if isinstance(value, torch.Tensor):
                tensors[key] = value.detach().clone()
            else:
                values[key] = value
    return TrainerState(tensors=tensors, values=values)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: TrainerState) -> None:
    """Puts back what `optimizer_state` returned.

    Raises:
        ProtocolError: the state belongs to an optimizer of other parameters.
    """
    found: dict[int, dict[str, Any]] = {}
    for key, value in [*state.tensors.items(), *state.values.items()]:
        if key.startswith(_OPTIMIZER):
            index, _, name = key.removeprefix(_OPTIMIZER).partition(".")
            found.setdefault(int(index), {})[name] = value
    current = optimizer.state_dict()
    num_parameters = sum(len(group["params"]) for group in current["param_groups"])
    if found and max(found) >= num_parameters:
        raise ProtocolError(f"optimizer state: expected {num_parameters} parameters, found number {max(found)}")
    optimizer.load_state_dict({"state": found, "param_groups": current["param_groups"]})


def generator_state() -> dict[str, torch.Tensor]:
    """torch's default generators: of the CPU, and of every CUDA device if there are any."""
    states = {f"{_GENERATOR}cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"{_GENERATOR}cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return states


def load_generator_state(tensors: Mapping[str, torch.Tensor]) -> None:
    """Puts back what `generator_state` returned, for the devices that are here."""
    torch.set_rng_state(tensors[f"{_GENERATOR}cpu"])
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"{_GENERATOR}cuda{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"{_GENERATOR}cuda{i}"], i)
