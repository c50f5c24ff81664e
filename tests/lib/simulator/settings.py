# SPDX-License-Identifier: Apache-2.0
"""Keys, rosters and small manifests of simulated federations. What does not depend on a seed is made once."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from safetensors.numpy import save

from federation.chunks import Float32Vector, fragment_digest
from federation.fragments import build_fragments, flatten
from federation.leaves import Bounds, Member
from federation.manifest import Manifest
from federation.merkle import blob_digest
from federation.testing.manifests import manifest_of, plan_of
from federation.testing.rosters import DAY_US, MemoryConsortium

CONSORTIUM, OPERATOR, RUN = "sim", "olga", "run-1"
START = 1_700_000_000.0
PATIENT = Bounds(
    answer_seconds=10**7,
    training_seconds=10**7,
    upload_seconds=10**7,
    max_round_seconds=10**7,
    open_grace_seconds=10**7,
    max_open_wait_seconds=10**7,
    seal_grace_seconds=0,
    witness_seconds=10**7,
    max_abandoned=3,
)
HASTY = Bounds(
    answer_seconds=60,
    training_seconds=90,
    upload_seconds=60,
    max_round_seconds=150,
    open_grace_seconds=20,
    max_open_wait_seconds=600,
    seal_grace_seconds=0,
    witness_seconds=400,
    max_abandoned=3,
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is simulated.

    Attributes:
        patient: every site is required and no bound ever ends (the final bits are then known beforehand); else a
            majority is enough and bounds are short.
        tasks_every: commits between two evaluations of benchmark tasks; -1: none.
    """

    num_sites: int = 3
    num_fragments: int = 1
    num_rounds: int = 2
    tau: int = 0
    codec: str = "int4"
    momentum: float = 0.9
    patient: bool = True
    tasks_every: int = -1

    @property
    def sites(self) -> tuple[str, ...]:
        """Ids, ascending."""
        return tuple(f"site-{letter}" for letter in "abcd"[: self.num_sites])


@cache
def consortium(num_sites: int) -> MemoryConsortium:
    """Keys of everybody."""
    return MemoryConsortium(name=CONSORTIUM, sites=Setting(num_sites=num_sites).sites, operators=(OPERATOR,))


@cache
def roster_document(num_sites: int) -> bytes:
    """Roster version 1."""
    keys = consortium(num_sites)
    roster = keys.roster(now_us=int(START * 1e6))
    # Some tests run real commands, with today's clock, on what was simulated.
    return keys.document(replace(roster, expires_at_us=roster.issued_at_us + 100 * 365 * DAY_US))


@cache
def model(num_fragments: int) -> tuple[bytes, tuple[Float32Vector, ...], Manifest]:
    """theta_0 as safetensors, its fragments, and a manifest with the fragment table and a plan for one site."""
    shapes = [(f"model.layers.{layer}.weight", (5, 8 + layer)) for layer in range(4)]
    tensors = {
        name: (np.arange(rows * columns, dtype=np.float32).reshape(rows, columns) % 13 - 6) / np.float32(16)
        for name, (rows, columns) in shapes
    }
    data = save(tensors)
    tables = build_fragments(shapes, num_fragments)
    vectors = tuple(flatten(table, tensors.__getitem__) for table in tables)
    digests = tuple(fragment_digest(vector) for vector in vectors)
    plan = plan_of({"site-a": 4 * num_fragments}, num_fragments=num_fragments, theta_digests=digests)
    return data, vectors, replace(manifest_of(plan, tables), theta_blob=blob_digest(data), consortium=CONSORTIUM)


@cache
def manifest(setting: Setting) -> Manifest:
    """The manifest of a setting."""
    base = model(setting.num_fragments)[2]
    steps = 4 * setting.num_fragments
    members = tuple(Member(site=site, num_inner_steps=steps, planned_tokens=100) for site in setting.sites)
    majority = setting.num_sites // 2 + 1
    plan = replace(
        base.plan,
        members=members,
        num_rounds=setting.num_rounds,
        tau=setting.tau,
        quorum_sites=setting.num_sites if setting.patient else majority,
        quorum_token_percent=100 if setting.patient else 50,
        weighting="tokens",
        evaluate_every=2,
        witness_quorum=majority,
        bounds=PATIENT if setting.patient else HASTY,
    )
    codecs = replace(base.codecs, up=setting.codec, down=setting.codec)
    trainer = replace(base.trainer, name="reference")
    outer = replace(base.outer, momentum=setting.momentum)
    return replace(base, plan=plan, codecs=codecs, outer=outer, trainer=trainer)
