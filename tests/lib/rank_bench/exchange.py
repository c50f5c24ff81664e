# SPDX-License-Identifier: Apache-2.0
"""`python -m rank_bench.exchange PHASE DIR LAYOUT CODEC BETA`: half a story of rounds on any number of ranks.

Phase "first" starts at theta_0, phase "second" goes on from the training checkpoint that the first one left. Whatever
the number of ranks and the layout of the parameters, what lies in DIR afterwards must be the same.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from federation.chunks import fragment_digest
from federation.codecs.payload import decode_vector, encode_vector
from federation.codecs.registry import get_codec
from federation.durable.real import RealFileSystem
from federation.fragments import build_fragments, flatten
from federation.manifest import Manifest
from federation.testing.manifests import manifest_of, plan_of
from site_agent.inner_loop.exchange import Exchange
from site_agent.inner_loop.global_model import GlobalModel
from site_agent.inner_loop.owned_exchange import OwnedExchange
from site_agent.inner_loop.owned_model import OwnedModel
from site_agent.inner_loop.owned_parameters import OwnedParameters
from site_agent.inner_loop.parameters import LocalParameters
from site_agent.inner_loop.progress import InFlight
from site_agent.inner_loop.rank_checkpoints import LeadingCheckpoints, RankCheckpoints
from site_agent.inner_loop.seam import Shard, local_part, whole
from site_agent.inner_loop.team import gather_teams
from site_agent.jobs import OutcomeFile, OutcomeKind, UpdateFile
from site_agent.trainer.checkpoint import TrainingCheckpoints

PARAMETERS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("embed", (150, 4096)),
    ("layers.0.weight", (275, 8192)),
    ("layers.1.weight", (53, 10311)),
    ("norm", (1025,)),
)
"""Few rows: a parameter that is cut along its columns travels row by row."""


def drawn(name: str, shape: tuple[int, ...], step: int) -> np.ndarray:
    """Noise of a parameter at a step, the same for everybody."""
    seed = [step, *name.encode()]
    return np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(0.01)


class HandTrainer:
    """Parameters that a step moves by noise; every rank moves what it holds.

    Args:
        layout: "replicas", "fsdp" (DTensors of `fully_shard`), or "columns" (cut along the last dimension).
    """

    def __init__(self, layout: str, rank: int, size: int) -> None:
        self.shards = [shard for name, shape in PARAMETERS for shard in self._cut(layout, name, shape, rank, size)]
        self._shapes = dict(PARAMETERS)

    def _cut(self, layout: str, name: str, shape: tuple[int, ...], rank: int, size: int) -> Iterable[Shard]:
        if layout == "fsdp" and size > 1:
            from torch.distributed.fsdp import fully_shard

            module = torch.nn.Module()
            module.register_parameter("p", torch.nn.Parameter(torch.zeros(shape)))
            fully_shard(module, mesh=torch.distributed.init_device_mesh("cpu", (size,)))
            yield Shard(name, *local_part(module.p))
        elif layout == "columns":
            edges = [shape[-1] * r // size for r in range(size + 1)]
            where = (*(slice(0, n) for n in shape[:-1]), slice(edges[rank], edges[rank + 1]))
            tensor = torch.zeros([part.stop - part.start for part in where])
            yield Shard(name, where, tensor)
        else:
            tensor = torch.zeros(shape)
            yield Shard(name, whole(tensor), tensor)

    def local_shards(self) -> Iterable[Shard]:
        """What this rank holds."""
        return self.shards

    def step(self, number: int) -> None:
        """Moves it."""
        for name, where, tensor in self.shards:
            tensor.sub_(torch.from_numpy(drawn(name, self._shapes[name], number)[where]))


def manifest_for(codec: str, beta: float) -> Manifest:
    """Two fragments of more than two chunks and of less than two."""
    plan = plan_of({"a": 4}, num_fragments=2, tau=1, num_rounds=8)
    return manifest_of(
        plan,
        build_fragments(PARAMETERS, 2),
        alpha=0.5,
        up=codec,
        down="int8",
        feedback_beta=beta or None,
    )


def theta0(manifest: Manifest) -> list[np.ndarray]:
    """Version 0."""
    return [flatten(t, lambda n: drawn(n, dict(PARAMETERS)[n], 1_000_000)) for t in manifest.fragments]


class Story:
    """One rank's half of the story."""

    def __init__(self, directory: Path, layout: str, manifest: Manifest) -> None:
        self.directory, self.manifest = directory, manifest
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        fs = RealFileSystem(directory)
        self.updates: dict[int, UpdateFile] = {}
        if self.size == 1:
            self.trainer = HandTrainer(layout, 0, 1)
            local = LocalParameters(self.trainer.local_shards, manifest.fragments)
            self.exchange = Exchange(manifest, GlobalModel(manifest, lambda: theta0(manifest)), local)
            self.checkpoints = TrainingCheckpoints(fs)
            return
        teams = gather_teams()
        self.trainer, team = HandTrainer(layout, self.rank, self.size), teams.training
        owned = OwnedParameters(self.trainer.local_shards, manifest.fragments, team)
        model = OwnedModel(manifest, lambda: [theta[owned.part(p)] for p, theta in enumerate(theta0(manifest))], team)
        self.exchange = OwnedExchange(manifest, model, owned, team)
        self.checkpoints = (LeadingCheckpoints if self.rank == 0 else RankCheckpoints)(fs, "training", teams)

    def encode(self, number: int) -> None:
        """A payload and its digest go into files."""
        parts: list[bytes] = []
        _, digest = self.exchange.encode(number, number % 2, lambda part: parts.append(bytes(part)))
        if self.rank == 0:
            (self.directory / f"{number}.payload").write_bytes(b"".join(parts))
            (self.directory / f"{number}.digest").write_text(digest)

    def resend(self, number: int) -> None:
        """The same once more."""
        parts: list[bytes] = []
        self.exchange.resend(number, lambda part: parts.append(bytes(part)))
        if self.rank == 0:
            assert b"".join(parts) == (self.directory / f"{number}.payload").read_bytes()

    def merge(self, number: int, before: np.ndarray, *, listed: bool) -> np.ndarray:
        """A commit that follows a version; the new theta."""
        down, fragment = get_codec("int8"), number % 2
        blob = encode_vector(down, np.random.default_rng(number).standard_normal(before.size, np.float32))
        new = before - decode_vector(down, before.size, blob)
        path = self.directory / f"{number}.blob.{self.rank}"
        path.write_bytes(blob)
        outcome = OutcomeFile(
            round=number,
            kind=OutcomeKind.COMMITTED,
            fragment=fragment,
            version=number + 1,
            theta_digest=fragment_digest(new),
            blob_path=str(path),
            listed_payload_digest="aa" if listed else "",
        )
        update = UpdateFile(
            round=number,
            fragment=fragment,
            base_digest="",
            codec="",
            payload_digest="aa",
            payload_bytes=0,
            weight_tokens=0,
            new_tokens=0,
            num_steps=0,
            fencing=0,
        )
        self.exchange.merge(InFlight(round=number, update=update), outcome, lambda: [])
        return new

    def save(self) -> None:
        """A training checkpoint."""
        parts = self.exchange.lend()
        if self.rank == 0:
            record = OutcomeFile(round=0, kind=OutcomeKind.COMMITTED, fragment=0)
            self.checkpoints.save(record, {**parts, "trainer": {}})
        else:
            self.checkpoints.write_share(parts)
        self.exchange.returned()

    def load(self) -> None:
        """The newest one."""
        number = max(int(path.name) for path in (self.directory / "training").iterdir())
        model = self.exchange.model
        if self.size == 1:
            loaded = self.checkpoints.load(OutcomeFile)
            assert loaded is not None
            parts = loaded[1]
        else:
            parts = self.checkpoints.open_together(number, OutcomeFile)[1]
        self.exchange.restore(parts, model.versions, model.digests)

    def first(self) -> None:
        """Two windows and a merge."""
        base = theta0(self.manifest)
        self.exchange.begin()
        self.trainer.step(1)
        self.encode(0)
        self.trainer.step(2)
        self.encode(1)
        self.merge(0, base[0], listed=True)
        self.trainer.step(3)
        self.save()

    def second(self) -> None:
        """Two merges and two windows more."""
        base = theta0(self.manifest)
        down = get_codec("int8")
        blob = (self.directory / "0.blob.0").read_bytes()
        base[0] = base[0] - decode_vector(down, base[0].size, blob)
        self.load()
        self.resend(1)
        self.encode(2)
        self.merge(1, base[1], listed=False)
        self.trainer.step(4)
        base[0] = self.merge(2, base[0], listed=True)
        self.trainer.step(5)
        self.encode(3)
        self.save()


def main(arguments: list[str]) -> None:
    """One phase of all the cases named."""
    phase, directory, layout, *cases = arguments
    for case in cases:
        codec, _, beta = case.partition(":")
        story = Story(Path(directory) / case.replace(":", "-"), layout, manifest_for(codec, float(beta or 0)))
        story.directory.mkdir(parents=True, exist_ok=True)
        story.first() if phase == "first" else story.second()


if __name__ == "__main__":
    main(sys.argv[1:])
