# SPDX-License-Identifier: Apache-2.0
"""The loss study's settings, its methods, and the run.toml of each of its runs.

A run is what the study compares: one method, one pair (outer learning rate, β), one seed. The text of its run.toml is
one that a real federation takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from pydantic import Field

from federation.config import Problem, Section, load_toml, raise_if_any
from federation.demo.settings import find_texts
from federation.errors import ConfigError

T = TypeVar("T")
Listed: TypeAlias = Annotated[tuple[T, ...], Field(strict=False)]
"""A list in a TOML file."""

SITES: Final = {"site-1": ("de",), "site-2": ("es",), "site-3": ("cs",), "site-4": ("fi",)}
"""Sites unless the settings name others: languages of different families, far apart."""

ADVICE: Final = "docs/results/loss.md lists every setting of a study."


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way of training together.

    Attributes:
        codec, codec_down: of updates and of commits.
        feedback: β is that of error feedback, and the outer optimizer has no momentum; else β is its momentum.
        streaming: the model travels in fragments while training goes on.
        target: highest acceptable upper 95% bound of the relative difference to DiLoCo fp32; None: not bounded.
    """

    name: str
    title: str
    codec: str = "fp32"
    codec_down: str = "fp32"
    feedback: bool = False
    streaming: bool = False
    data_parallel: bool = False
    target: float | None = None


BASE: Final = "fp32"
"""The method that the others are compared with."""

METHODS: Final = {
    method.name: method
    for method in (
        Method(name="data-parallel", title="data parallel", data_parallel=True),
        Method(name=BASE, title="DiLoCo fp32"),
        Method(name="int8", title="DiLoCo int8", codec="int8", codec_down="int8", target=0.005),
        Method(name="int4", title="DiLoCo int4", codec="int4", codec_down="int4", target=0.005),
        Method(name="sparse", title="sparse", codec="sparse", codec_down="sparse-down", feedback=True, target=0.02),
        Method(name="streaming", title="streaming int4", codec="int4", codec_down="int4", streaming=True, target=0.015),
    )
}


class StudySettings(Section):
    """What is studied; a TOML file may change any of it.

    Attributes:
        sites: languages by site.
        seeds: of the runs that are compared; a seed orders data and draws the first parameters.
        tuning_seed: of the tuning, different from all of them.
        num_rounds: exchanges of the whole model; a streaming run has `num_fragments` times as many rounds.
        warm_rounds: as long every seed trains data parallel before, and all its methods start from what came out.
        warm_lr: inner learning rate there, constant after its warm-up.
        tuning_share: one over this share of `num_rounds` is what tuning trains.
        momenta: β for methods without error feedback.
        feedbacks: β of error feedback.
        num_fragments, tau, alpha: of the streaming method.
        evaluation_bytes: held-out text per language.
        min_language_bytes: training text of a language that counts in the average.
    """

    sites: Mapping[str, Listed[str]] = Field(default=SITES)
    seeds: Listed[int] = (1, 2, 3, 4, 5, 6)
    tuning_seed: int = 1000
    num_rounds: int = 64
    warm_rounds: int = 120
    warm_lr: float = 2e-3
    tuning_share: int = 4
    outer_lrs: Listed[float] = (0.7, 1.0, 1.4)
    momenta: Listed[float] = (0.0, 0.5)
    feedbacks: Listed[float] = (0.9, 0.95)
    num_inner_steps: int = 16
    num_fragments: int = 4
    tau: int = 4
    alpha: float = 0.5
    inner_lr: float = 1e-3
    warmup_steps: int = 10
    min_lr_fraction: float = 0.1
    hidden_size: int = 64
    intermediate_size: int = 192
    num_layers: int = 4
    num_heads: int = 4
    batch_size: int = 4
    sequence_length: int = 64
    evaluation_bytes: int = 49_152
    min_language_bytes: int = 1_000_000
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def languages(self) -> tuple[str, ...]:
        """All of them, ascending."""
        return tuple(sorted(language for languages in self.sites.values() for language in languages))

    def grid(self, method: Method) -> list[tuple[float, float]]:
        """Pairs (outer learning rate, β) that are tried; as many for every method that has an outer optimizer."""
        betas = self.feedbacks if method.feedback else self.momenta
        return [] if method.data_parallel else [(lr, beta) for lr in self.outer_lrs for beta in betas]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Outer learning rate and β of a run."""

    lr: float = 1.0
    beta: float = 0.0


def load_settings(path: Path | None) -> StudySettings:
    """The study's settings, some of them changed by a TOML file.

    Raises:
        ConfigError: with one sentence for every problem.
    """
    settings = load_toml(path, StudySettings, advice=ADVICE) if path else StudySettings()
    raise_if_any(path.name if path else "study", _problems(settings), advice=ADVICE)
    return settings


def _problems(settings: StudySettings) -> list[Problem]:
    problems = []
    languages = settings.languages
    if len(set(languages)) < len(languages) or not all(settings.sites.values()):
        problems.append(Problem(key="sites", expected="each language at one site", found=", ".join(languages)))
    if not settings.seeds or len({*settings.seeds, settings.tuning_seed}) <= len(settings.seeds):
        found = f"{list(settings.seeds)} and {settings.tuning_seed}"
        problems.append(Problem(key="seeds", expected="different ones, also from tuning_seed", found=found))
    if not 1 <= settings.tuning_share <= settings.num_rounds:
        found = str(settings.tuning_share)
        problems.append(Problem(key="tuning_share", expected=f"1 to {settings.num_rounds}", found=found))
    return problems


def check_data(data: Path, settings: StudySettings) -> dict[str, int]:
    """Bytes of each language's files in the directory.

    Raises:
        ConfigError: it is missing, or has no text of a language that the study trains on.
    """
    texts = find_texts(data)
    missing = [language for language in settings.languages if language not in texts]
    if missing:
        raise ConfigError(
            f"--data: expected <lang>*.txt or <lang>*.txt.gz of {', '.join(settings.languages)} in {data}, "
            f"found none of {', '.join(missing)}",
            advice="Give another directory, or name the sites' languages in a file for --settings.",
        )
    return {language: sum(path.stat().st_size for path in texts[language]) for language in settings.languages}


_RUN_TOML: Final = """[run]
id = "{run}"
consortium = "{consortium}"
num_rounds = {num_rounds}
evaluate_every = 0

[schedule]
num_inner_steps = {num_inner_steps}
num_fragments = {num_fragments}
tau = {tau}
alpha = {alpha}

[outer]
lr = {outer_lr}
momentum = {momentum}
weighting = "uniform"

[codecs]
up = "{codec}"
down = "{codec_down}"
error_feedback = {feedback}
error_feedback_beta = {beta}

[quorum]
num_sites = {num_sites}

[inner]
lr = {inner_lr}
warmup_steps = {warmup_steps}
min_lr_fraction = {min_lr_fraction}

[model]
hidden_size = {hidden_size}
intermediate_size = {intermediate_size}
num_layers = {num_layers}
num_heads = {num_heads}

[trainer]
batch_size = {batch_size}
sequence_length = {sequence_length}
seed = {seed}
evaluation_bytes = {evaluation_bytes}
"""


def run_toml(
    settings: StudySettings,
    method: Method,
    choice: Choice,
    *,
    seed: int,
    num_rounds: int,
    warm: bool = False,
    run: str = "study",
    consortium: str = "bench",
) -> str:
    """Text of a run.toml.

    Args:
        num_rounds: exchanges of the whole model.
        warm: of the data-parallel training before.
    """
    fragments = settings.num_fragments if method.streaming else 1
    values = settings.model_dump() | {
        "run": run,
        "consortium": consortium,
        "num_rounds": num_rounds * fragments,
        "num_fragments": fragments,
        "tau": settings.tau if method.streaming else 0,
        "alpha": settings.alpha if method.streaming else 0.0,
        "outer_lr": float(choice.lr),
        "momentum": 0.0 if method.feedback else float(choice.beta),
        "codec": method.codec,
        "codec_down": method.codec_down,
        "feedback": str(method.feedback).lower(),
        "beta": float(choice.beta) if method.feedback else 0.95,
        "num_sites": len(settings.sites),
        "inner_lr": settings.warm_lr if warm else settings.inner_lr,
        "min_lr_fraction": 1.0 if warm else settings.min_lr_fraction,
        "seed": seed,
    }
    return _RUN_TOML.format_map(values) + "".join(f'\n[[sites]]\nid = "{site}"\n' for site in settings.sites)
