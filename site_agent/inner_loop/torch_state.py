# SPDX-License-Identifier: Apache-2.0
"""State of torch optimizers and generators as named tensors and JSON values: no pickle."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch

from federation.errors import ProtocolError
from site_agent.inner_loop.parameters import flat_offset
from site_agent.inner_loop.seam import StatePart, TrainerState, local_part
from site_agent.inner_loop.team import world_size_here
from site_agent.trainer.pieces import range_of

_OPTIMIZER = "optimizer."
_GENERATOR = "generator."


def optimizer_state(optimizer: torch.optim.Optimizer) -> TrainerState:
    """A copy of an optimizer's buffers and counters; hyperparameters are the program's, the rate is the schedule's.

    Of buffers that are spread over ranks (DTensors) it has this rank's part.
    """
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, Any] = {}
    parts: dict[str, StatePart] = {}
    for index, buffers in optimizer.state_dict()["state"].items():
        for name, value in buffers.items():
            key = f"{_OPTIMIZER}{index}.{name}"
            if not isinstance(value, torch.Tensor):
                values[key] = value
            elif hasattr(value, "placements"):
                parts |= _part(key, value)
            else:
                tensors[key] = value.detach().clone()
    return TrainerState(tensors=tensors, values=values, parts=parts)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: TrainerState) -> None:
    """Puts back what `optimizer_state` returned, on any number of ranks.

    Raises:
        ProtocolError: the state belongs to an optimizer of other parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    found: dict[int, dict[str, Any]] = {}
    for key in [*state.tensors, *state.values]:
        if key.startswith(_OPTIMIZER):
            index, _, name = key.removeprefix(_OPTIMIZER).partition(".")
            if int(index) >= len(parameters):
                raise ProtocolError(f"optimizer state: expected {len(parameters)} parameters, found number {index}")
            value = state.values[key] if key in state.values else _placed(state.tensors, key, parameters[int(index)])
            found.setdefault(int(index), {})[name] = value
    current = optimizer.state_dict()
    optimizer.load_state_dict({"state": found, "param_groups": current["param_groups"]})


def generator_state() -> dict[str, torch.Tensor]:
    """torch's default generators: of the CPU, and of every CUDA device if there are any; of several ranks each saves
    its own device's only.
    """
    states = {f"{_GENERATOR}cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        every = [torch.cuda.get_rng_state()] if world_size_here() > 1 else torch.cuda.get_rng_state_all()
        states |= {f"{_GENERATOR}cuda{i}": s for i, s in enumerate(every)}
    return states


def load_generator_state(tensors: Mapping[str, torch.Tensor]) -> None:
    """Puts back what `generator_state` returned, for the devices that are here; a rank without any keeps its own."""
    if f"{_GENERATOR}cpu" in tensors:
        torch.set_rng_state(tensors[f"{_GENERATOR}cpu"])
    if not torch.cuda.is_available():
        return
    if world_size_here() > 1:
        if f"{_GENERATOR}cuda0" in tensors:
            torch.cuda.set_rng_state(tensors[f"{_GENERATOR}cuda0"])
        return
    for i in range(torch.cuda.device_count()):
        if f"{_GENERATOR}cuda{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"{_GENERATOR}cuda{i}"], i)


def _part(key: str, value: torch.Tensor) -> dict[str, StatePart]:
    """This rank's part of a buffer, nothing where it holds none of it."""
    where, local = local_part(value)
    if not local.numel():
        return {}
    return {key: StatePart(_offset(key, where, tuple(value.shape)), local.reshape(-1).clone())}


def _placed(tensors: Mapping[str, torch.Tensor], key: str, parameter: torch.Tensor) -> torch.Tensor:
    """A stored buffer as this rank's optimizer needs it: whole, or its part of it where the parameter is spread."""
    if not hasattr(parameter, "placements"):
        value = tensors[key]
        is_flat = value.dim() == 1 and value.numel() == parameter.numel()
        return value.reshape(parameter.shape) if is_flat else value
    if key.endswith(".step"):
        return tensors[key]
    where, local = local_part(parameter)
    start = _offset(key, where, tuple(parameter.shape))
    return _like(parameter, range_of(tensors, key, start, start + local.numel()).reshape(local.shape))


def _like(parameter: Any, local: torch.Tensor) -> torch.Tensor:
    """A DTensor laid out as a parameter."""
    from torch.distributed.tensor import DTensor

    spread: torch.Tensor = DTensor.from_local(
        local.to(parameter.device),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return spread


def _offset(key: str, where: tuple[slice, ...], shape: tuple[int, ...]) -> int:
    if not prod(part.stop - part.start for part in where):
        return 0
    offset = flat_offset(where, shape)
    if offset is None:
        raise ProtocolError(f"{key}: expected a state that is cut along its first dimension, found {where}")
    return offset
