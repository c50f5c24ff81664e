# SPDX-License-Identifier: Apache-2.0
"""What a benchmark's federation is: sites, model, codec, schedule; and its run.toml."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any, Final

from federation.bench.model import GPT2_SMALL_PARAMETERS, model_of, num_elements
from federation.fragments import Parameter

CONSORTIUM: Final = "bench"
RUN: Final = "bench"
TRAINER: Final = "bench"
_TOKENS: Final = (8, 128)
"""Sequences and tokens of each, of one inner step: accounted for, never trained on."""


@dataclass(frozen=True, kw_only=True)
class WorldSetting:
    """A federation to be measured.

    Attributes:
        num_rounds: of the run; `World.allow` says how many of them may begin.
        parameters: names and shapes of the model.
        codec, codec_down: of updates and of commits; "" for what belongs to `codec`.
        alpha: None for the default of run.toml.
        check_theta_every: how often, in commits, jobs check theta's digest, where site.toml has such a setting.
        step_seconds: of one inner step, at least.
        gate: whether sites wait for `World.allow` before a round's inner steps, and for each other before they encode.
        num_threads: of one job.
        agent_poll_seconds: None for the agents' own.
        replay: jobs hand in encoded blocks (`federation.bench.pool`) instead of holding the model; one fragment only.
        overlap: jobs write every training checkpoint, and say where their time goes (`site_agent.bench.overlap`).
        run_toml: more keys of `[run]`, `[schedule]`, ... by section and key, as TOML values.
    """

    num_sites: int = 4
    num_rounds: int = 20
    parameters: tuple[Parameter, ...] = field(default_factory=lambda: model_of(GPT2_SMALL_PARAMETERS))
    codec: str = "int4"
    codec_down: str = ""
    num_inner_steps: int = 1
    num_fragments: int = 1
    tau: int = 0
    alpha: float | None = None
    snapshot_every_rounds: int = 10
    check_theta_every: int = 10
    step_seconds: float = 0.0
    noise_scale: float = 1e-3
    gate: bool = True
    num_threads: int = 1
    agent_poll_seconds: float | None = None
    replay: bool = False
    overlap: bool = False
    run_toml: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[str, ...]:
        """Ids of the sites, ascending."""
        return tuple(f"site-{number:02d}" for number in range(1, self.num_sites + 1))

    @property
    def num_parameters(self) -> int:
        """Of the model."""
        return num_elements(self.parameters)

    @property
    def down(self) -> str:
        """Codec of commits: the same as of updates, but for sparse ones."""
        return self.codec_down or ("sparse-down" if self.codec == "sparse" else self.codec)

    def toml(self) -> str:
        """run.toml."""
        sections = self._sections()
        for name, keys in self.run_toml.items():
            sections[name] = {**sections.get(name, {}), **keys}
        return "\n".join(starmap(_section, sections.items())) + "".join(
            f'\n[[sites]]\nid = "{site}"\n' for site in self.sites
        )

    def _sections(self) -> dict[str, dict[str, Any]]:
        alpha = {} if self.alpha is None else {"alpha": float(self.alpha)}
        steps = {"num_inner_steps": self.num_inner_steps, "num_fragments": self.num_fragments, "tau": self.tau}
        momentum = 0.0 if {self.codec, self.down} & {"sparse", "sparse-down"} else 0.9
        batch, length = _TOKENS
        return {
            "run": {
                "id": f'"{RUN}"',
                "consortium": f'"{CONSORTIUM}"',
                "num_rounds": self.num_rounds,
                "evaluate_every": 0,
                "snapshot_every_rounds": self.snapshot_every_rounds,
            },
            "schedule": {**steps, **alpha},
            "outer": {"momentum": momentum},
            "codecs": {"up": f'"{self.codec}"', "down": f'"{self.down}"'},
            "quorum": {"num_sites": self.num_sites},
            # Of the reference trainer; the bench's own takes its model from the fragment table.
            "model": {"hidden_size": 16, "intermediate_size": 32, "num_layers": 1, "num_heads": 2},
            "trainer": {"name": f'"{TRAINER}"', "batch_size": batch, "sequence_length": length},
        }


def _section(name: str, keys: Mapping[str, Any]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
