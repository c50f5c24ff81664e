# SPDX-License-Identifier: Apache-2.0
"""What jobs encode, as digests and hexadecimal bytes: the same wherever parameters lie and whoever encodes them."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from job_bench.case import NUM_ROUNDS, A, Case, toy_manifest

from federation.fragments import build_fragments
from federation.golden import inputs
from federation.testing.manifests import manifest_of, plan_of
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.global_model import GlobalModel
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.progress import InFlight
from site_agent.inner_loop.seam import Shard, whole
from site_agent.jobs import OutcomeFile, OutcomeKind, UpdateFile

SHAPES = {"a": (999,), "b": (1024, 1021), "c": (7, 11, 13), "d": (3000,)}
"""Two chunks; most tensors begin at an odd element, and b goes over the chunks' border."""

NO_UPDATE = UpdateFile(
    round=0,
    fragment=0,
    base_digest="",
    codec="",
    payload_digest="",
    payload_bytes=0,
    weight_tokens=0,
    new_tokens=0,
    num_steps=0,
    fencing=0,
)


def whole_job(directory: Path, codec: str, feedback: float | None) -> dict[str, Any]:
    """Six rounds of site a's job: what it published of each, and what it ended with."""
    manifest = toy_manifest(feedback=feedback)
    case = Case(directory, replace(manifest, codecs=replace(manifest.codecs, up=codec)))
    case.order(*range(NUM_ROUNDS))
    case.end(*range(NUM_ROUNDS))
    exchange = case.train()._exchange
    updates = [case.update(number) for number in range(NUM_ROUNDS)]
    return {
        "payloads": [case.allocation.read(f"{A.updates}/{number}.payload").hex() for number in range(NUM_ROUNDS)],
        "oracle": [case.reference.history[number].payloads["a"].hex() for number in range(NUM_ROUNDS)],
        "digests": ["" if update is None else update.payload_digest for update in updates],
        "feedback": [e.tobytes().hex() for e in exchange.feedback],
        "parameters": [value.tobytes().hex() for value in case.trainer.parameters().values()],
    }


class OneFragment:
    """The exchange of a job whose model is one fragment of several tensors on a device."""

    def __init__(self, device: str, codec: str, feedback: float | None) -> None:
        tables = build_fragments(list(SHAPES.items()), 1)
        manifest = manifest_of(plan_of({"a": 1}), tables, momentum=0.0, up=codec, down="fp32", feedback_beta=feedback)
        theta = inputs.usual(1, tables[0].num_elements)
        self.tensors = {name: torch.zeros(shape, device=device) for name, shape in SHAPES.items()}
        local = LocalParameters(lambda: [Shard(n, whole(t), t) for n, t in self.tensors.items()], tables)
        self.exchange = Exchange(manifest, GlobalModel(manifest, lambda: [theta.copy()]), local)
        self.exchange.begin()

    def train(self, seed: int) -> None:
        """Changes every parameter."""
        for index, tensor in enumerate(self.tensors.values()):
            noise = inputs.usual(seed + index, tensor.numel()) * np.float32(2.0**-7)
            tensor += torch.from_numpy(noise).reshape(tensor.shape).to(tensor.device)

    def boundary(self, number: int) -> dict[str, str]:
        """Encodes, and adopts the feedback."""
        parts = list[bytes]()
        payload, digest = self.exchange.encode(number, 0, lambda part: parts.append(bytes(part)))
        assert b"".join(parts) == payload.tobytes(), "the sink gets every byte in its order"
        candidate = self.exchange.candidates.get(number)
        update = replace(NO_UPDATE, round=number, payload_digest=digest)
        outcome = OutcomeFile(
            round=number, kind=OutcomeKind.COMMITTED, fragment=0, version=1, listed_payload_digest=digest
        )
        found = {
            "digest": digest,
            "payload": _hash(payload),
            "candidate": "" if candidate is None else _hash(candidate),
        }
        self.exchange.adopt(InFlight(round=number, update=update), outcome)
        return found


def boundaries(device: str, codec: str, feedback: float | None) -> list[dict[str, str]]:
    """Two of them, so that the second encodes what the first dropped."""
    job, found = OneFragment(device, codec, feedback), []
    for number in range(2):
        job.train(10 * number)
        found.append(job.boundary(number))
    return found


def refusal(device: str, value: float) -> str:
    """What a job says of such a parameter."""
    job = OneFragment(device, "int4", 0.9)
    job.tensors["d"][5] = value
    return sentence(lambda: job.boundary(0))


def sentence(work: Callable[[], object]) -> str:
    """The error that it raises."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def _hash(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
