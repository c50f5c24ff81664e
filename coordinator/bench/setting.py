# SPDX-License-Identifier: Apache-2.0
"""What a generated consortium looks like before its first round: sites, languages, plan, manifest.

Everything follows from the setting: whatever is drawn is drawn from `Setting.random`, by name.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from random import Random
from typing import Final

from federation import leaves as lv
from federation.codecs.payload import payload_bytes
from federation.codecs.registry import get_codec
from federation.errors import ConfigError
from federation.fragments import Parameter, build_fragments
from federation.ids import check_slug
from federation.limits import DEFAULT_LIMITS
from federation.manifest import Manifest, ModelSettings
from federation.testing.manifests import inner_settings, manifest_of

CONSORTIUM: Final = "eu"
RUN: Final = "eu-multilingual-1b"
OPERATORS: Final = ("alice", "bruno")
AUDITOR: Final = "edda"
VIEWER: Final = "vito"

SITE_NAMES: Final = (
    "alps",
    "arrhenius",
    "capella",
    "daedalus",
    "deucalion",
    "discoverer",
    "helios",
    "hunter",
    "jean-zay",
    "jupiter",
    "karolina",
    "leonardo",
    "levante",
    "lumi",
    "marenostrum5",
    "meluxina",
    "olivia",
    "roihu",
    "snellius",
    "vega",
)
"""The first sites of a generated consortium, ascending; further ones are site-021 and so on."""

# fmt: off
LANGUAGES: Final = (
    "bul_Cyrl", "ces_Latn", "dan_Latn", "deu_Latn", "ell_Grek", "eng_Latn", "est_Latn", "fin_Latn", "fra_Latn",
    "gle_Latn", "hrv_Latn", "hun_Latn", "ita_Latn", "lav_Latn", "lit_Latn", "mlt_Latn", "nld_Latn", "pol_Latn",
    "por_Latn", "ron_Latn", "slk_Latn", "slv_Latn", "spa_Latn", "swe_Latn",
    "bos_Latn", "cat_Latn", "eus_Latn", "glg_Latn", "isl_Latn", "kat_Geor", "mkd_Cyrl", "nob_Latn", "sqi_Latn",
    "srp_Cyrl", "tur_Latn", "ukr_Cyrl",
)
# fmt: on
"""The 24 official languages of the European Union, then twelve others: ISO 639-3 and script."""

P: Final = 4
WINDOW_STEPS: Final = 25
"""Nominal inner steps of a window; some sites take a fifth less or more."""

SILENT_ROUNDS: Final = 5

_BATCH, _SEQUENCE = 256, 4096
TOKENS_PER_STEP: Final = _BATCH * _SEQUENCE
CODEC: Final = "int4"

BOUNDS: Final = lv.Bounds(
    answer_seconds=900,
    training_seconds=5400,
    upload_seconds=1800,
    max_round_seconds=10_800,
    open_grace_seconds=0,
    max_open_wait_seconds=7 * 86_400,
    seal_grace_seconds=0,
    witness_seconds=3600,
    max_abandoned=5,
)
_MODEL: Final = ModelSettings(
    hidden_size=2048,
    intermediate_size=5504,
    num_layers=24,
    num_heads=16,
    num_kv_heads=16,
    max_positions=4096,
    vocab_size=32_768,
    tie_embeddings=False,
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How large the history is, and what it is drawn from.

    Attributes:
        num_rounds: that have ended, committed or abandoned, when the history stops; two more are open then.
        num_sites: members of the run.
        languages: codes as evaluations carry them, in the order of the leaves.
        seed: the same settings with the same seed make the same leaves.
        evaluate_every: commits between two evaluations.
        num_evaluators: sites that evaluate; 0 means all.
        hostile: texts, codes and reports are what bad input may look like, as far as ledger and files can hold it.
    """

    num_rounds: int
    num_sites: int
    languages: tuple[str, ...] = LANGUAGES
    seed: int = 0
    evaluate_every: int = 1
    num_evaluators: int = 0
    hostile: bool = False

    def __post_init__(self) -> None:
        tops = {"num_rounds": DEFAULT_LIMITS.max_num_rounds // 2, "num_sites": DEFAULT_LIMITS.max_num_sites}
        for name, top in tops.items():
            if not 1 <= getattr(self, name) <= top:
                raise ConfigError(f"{name}: expected 1 to {top}, found {getattr(self, name)}")
        if self.evaluate_every < 1 or not 0 <= self.num_evaluators <= self.num_sites:
            found = f"{self.evaluate_every} and {self.num_evaluators}"
            raise ConfigError(f"evaluate_every, num_evaluators: expected 1 or more and 0 to {self.num_sites}: {found}")

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Ids of the sites, ascending."""
        further = (f"site-{number:03d}" for number in range(len(SITE_NAMES) + 1, self.num_sites + 1))
        return tuple(sorted(check_slug(site, "site") for site in (*SITE_NAMES[: self.num_sites], *further)))

    @cached_property
    def evaluators(self) -> frozenset[str]:
        """Sites that evaluate."""
        return frozenset(self.sites[: self.num_evaluators or None])

    def is_silent(self, site: str, number: int) -> bool:
        """Whether nothing is heard of a site when this round opens: the last one of three or more, near the end."""
        since = self.num_rounds - min(SILENT_ROUNDS, self.num_rounds // 2)
        return self.num_sites > 2 and site == self.sites[-1] and number >= since

    def random(self, *name: object) -> Random:
        """The dice for one purpose: another name, other throws."""
        return Random(f"{self.seed}/{'/'.join(map(str, name))}")

    def digest(self, *name: object) -> str:
        """A digest of nothing that exists, for blobs that a generated directory leaves out."""
        return hashlib.sha256(f"{self.seed}/{'/'.join(map(str, name))}".encode()).hexdigest()

    @cached_property
    def plan(self) -> lv.Plan:
        """The run's plan: a quarter more rounds than the history has, four fragments, two rounds in flight."""
        return lv.Plan(
            members=tuple(self._member(site) for site in self.sites),
            num_rounds=self.num_rounds + max(10, self.num_rounds // 4),
            num_fragments=P,
            num_inner_steps=P * WINDOW_STEPS,
            tau=WINDOW_STEPS,
            first_window_steps=0,
            max_rounds_in_flight=2,
            quorum_sites=max(1, self.num_sites * 3 // 5),
            quorum_token_percent=50,
            weighting="tokens",
            approvals_required=len(OPERATORS),
            evaluate_every=self.evaluate_every,
            witness_quorum=self.num_sites // 2 + 1,
            witness_lag=2,
            bounds=BOUNDS,
            theta_digests=tuple(self.digest("theta", fragment, 0) for fragment in range(P)),
        )

    def _member(self, site: str) -> lv.Member:
        steps = P * WINDOW_STEPS * self.random("steps", site).choice((4, 5, 5, 5, 6)) // 5
        slow = self.random("courier", site).random() < 0.1
        return lv.Member(
            site=site,
            num_inner_steps=steps,
            planned_tokens=steps * TOKENS_PER_STEP,
            courier_round_trip_seconds=600 if slow else 0,
        )

    @cached_property
    def manifest(self) -> Manifest:
        """A manifest that breaks no rule; theta_0 is a digest of nothing."""
        plain = manifest_of(
            self.plan,
            build_fragments(_parameters(), P),
            alpha=0.5,
            momentum=0.9,
            up=CODEC,
            down=CODEC,
            inner=inner_settings(lr=3e-4, total_steps=self.plan.num_rounds * WINDOW_STEPS, warmup_steps=WINDOW_STEPS),
            snapshot_every_rounds=20,
        )
        trainer = replace(plain.trainer, batch_size=_BATCH, sequence_length=_SEQUENCE, evaluation_bytes=1_000_000)
        theta = self.digest("theta-blob")
        return replace(plain, run=RUN, consortium=CONSORTIUM, model=_MODEL, trainer=trainer, theta_blob=theta)

    def payload_bytes(self, fragment: int) -> int:
        """Of an update or a commit of this fragment."""
        return self._payload_bytes[fragment]

    @cached_property
    def _payload_bytes(self) -> tuple[int, ...]:
        return tuple(payload_bytes(get_codec(CODEC), table.num_elements) for table in self.manifest.fragments)

    @property
    def expected_length(self) -> timedelta:
        """About how long the history is, a little more than less."""
        return timedelta(minutes=55) * self.num_rounds + timedelta(days=3)


def _parameters() -> tuple[Parameter, ...]:
    """The tensors of the model, each layer's in one."""
    width, inner = _MODEL.hidden_size, _MODEL.intermediate_size
    layer = 4 * width * width + 3 * width * inner + 2 * width
    ends: tuple[Parameter, ...] = tuple(
        (f"model.{name}.weight", (_MODEL.vocab_size, width)) for name in ("embed_tokens", "lm_head")
    )
    return (*ends, *((f"model.layers.{index}.weight", (layer,)) for index in range(_MODEL.num_layers)))
