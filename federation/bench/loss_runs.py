# SPDX-License-Identifier: Apache-2.0
"""The loss study's runs: which there are, in which order, in which processes. A finished one is never repeated.

The trainer package runs them (`python -m site_agent.trainer.loss_study`), several one after another in each process,
and leaves a JSON file for each. So a study that was stopped goes on where it was.
"""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from federation.bench.loss_settings import METHODS, Choice, Method, StudySettings, check_data, run_toml
from federation.demo.children import Children, environment
from federation.demo.stages import command_module
from federation.durable.real import RealFileSystem
from federation.errors import ObjectNotFoundError, UsageError

STUDY_FILE: Final = "study.json"
RUNS: Final = "runs"
_MODULE: Final = "site_agent.trainer.loss_study"
_WARM_SEEDS: Final = 1_000_000
"""Added to a seed for the data order of what comes before the compared runs, so that they see other sequences."""

Document = dict[str, Any]


@dataclass(kw_only=True)
class LossStudy:
    """A study in its directory.

    Attributes:
        out: directory of the study; `runs/` holds a result per run.
        methods: names of those that take part; `fp32` is always needed to compare with.
        num_workers: processes at a time, one thread each.
        say: told what is being done.
    """

    settings: StudySettings
    data: Path
    out: Path
    methods: Sequence[str] = tuple(METHODS)
    num_workers: int = 2
    niceness: int = 10
    say: Callable[[str], None] = print
    fs: RealFileSystem = field(init=False)

    def __post_init__(self) -> None:
        self.out = self.out.absolute()
        self.fs = RealFileSystem(self.out)

    # --- the whole study ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Everything that is not done yet: common starts, tuning, then every seed of every method.

        Raises:
            ConfigError: the data do not hold.
            UsageError: the directory holds another study.
            JobFailedError: a process failed.
        """
        self.agree()
        if self.settings.warm_rounds:
            self._perform("common starts", [self.warm_run(seed) for seed in self._all_seeds()])
        self._perform("tuning", [run for method in self._chosen() for run in self.tuning_runs(method)])
        self._perform("comparison", [run for seed in self.settings.seeds for run in self._runs_of(seed)])

    def agree(self) -> None:
        """Writes down what is studied, or checks that it is what was studied here before.

        Raises:
            ConfigError: the data do not hold.
            UsageError: it is not.
        """
        wish = {"settings": self.settings.model_dump(mode="json"), "text": check_data(self.data, self.settings)}
        try:
            known = json.loads(self.fs.read(STUDY_FILE))
        except ObjectNotFoundError:
            self.fs.write(STUDY_FILE, json.dumps(wish, indent=1).encode())
            return
        if known != wish:
            raise UsageError(
                f"--out: expected a new directory or one of the same settings and texts, found another study in "
                f"{self.out}",
                advice="Choose another directory: runs of different settings cannot be compared.",
            )

    def _all_seeds(self) -> tuple[int, ...]:
        return (self.settings.tuning_seed, *self.settings.seeds)

    def _chosen(self) -> list[Method]:
        return [METHODS[name] for name in self.methods]

    def _runs_of(self, seed: int) -> list[Document]:
        return [self.compared_run(method, self.choice(method), seed) for method in self._chosen()]

    # --- runs ---------------------------------------------------------------------------------------------------------

    def warm_run(self, seed: int) -> Document:
        """Data-parallel training from first parameters; every method of this seed starts from its model."""
        dp, rounds = METHODS["data-parallel"], self.settings.warm_rounds
        text = run_toml(self.settings, dp, Choice(), seed=_WARM_SEEDS + seed, num_rounds=rounds, warm=True)
        return {**_run(self.warm_name(seed), text, seed), "data_parallel": True, "keep_model": True}

    def warm_name(self, seed: int) -> str:
        """Name of the run before a seed's runs."""
        return f"start-{seed}"

    def _start(self, seed: int) -> str:
        return str(self.out / RUNS / f"{self.warm_name(seed)}.safetensors") if self.settings.warm_rounds else ""

    def tuning_runs(self, method: Method) -> list[Document]:
        """One for each pair of the grid."""
        seed, rounds = self.settings.tuning_seed, max(1, self.settings.num_rounds // self.settings.tuning_share)
        pairs = (Choice(lr=lr, beta=beta) for lr, beta in self.settings.grid(method))
        return [self._method_run(tuning_name(method, pair), method, pair, seed, rounds) for pair in pairs]

    def compared_run(self, method: Method, choice: Choice, seed: int) -> Document:
        """One of the runs that are compared."""
        return self._method_run(compared_name(method, seed), method, choice, seed, self.settings.num_rounds)

    def _method_run(self, name: str, method: Method, choice: Choice, seed: int, num_rounds: int) -> Document:
        text = run_toml(self.settings, method, choice, seed=seed, num_rounds=num_rounds)
        return {**_run(name, text, seed), "data_parallel": method.data_parallel, "init_from": self._start(seed)}

    # --- results ------------------------------------------------------------------------------------------------------

    def result(self, name: str) -> Document | None:
        """What a finished run left."""
        try:
            found: Document = json.loads(self.fs.read(f"{RUNS}/{name}.json"))
        except ObjectNotFoundError:
            return None
        return found

    def macro_average(self, result: Document | None) -> float:
        """Mean bits per byte over the languages with enough text; infinity if the run broke down or is not there."""
        if result is None or result["diverged"]:
            return math.inf
        counted = counted_languages(result, self.settings)
        scores = {score["language"]: score["bits_per_byte"] for score in result["scores"]}
        return math.fsum(scores[language] for language in counted) / len(counted)

    def tuning(self, method: Method) -> list[tuple[Choice, float]]:
        """Bits per byte of each pair of the grid, in its order."""
        pairs = [Choice(lr=lr, beta=beta) for lr, beta in self.settings.grid(method)]
        return [(pair, self.macro_average(self.result(tuning_name(method, pair)))) for pair in pairs]

    def choice(self, method: Method) -> Choice:
        """The pair with the lowest loss in tuning; the first of equals."""
        tried = self.tuning(method)
        return min(tried, key=lambda item: item[1])[0] if tried else Choice()

    # --- processes ----------------------------------------------------------------------------------------------------

    def _perform(self, what: str, runs: Sequence[Document]) -> None:
        todo = [run for run in runs if not self.fs.exists(f"{RUNS}/{run['name']}.json")]
        self.say(f"{what}: {len(runs) - len(todo)} of {len(runs)} runs are done")
        if not todo:
            return
        self.fs.mkdir(RUNS)
        with ExitStack() as stack:
            children = stack.enter_context(Children(self.out / "logs", environment()))
            started = [
                children.start(f"worker-{number}", [*command_module(_MODULE), str(self._spec(number, share))])
                for number, share in enumerate(_shares(todo, self.num_workers), start=1)
            ]
            for child in started:
                children.wait(child)

    def _spec(self, number: int, runs: Sequence[Document]) -> Path:
        sites = [
            {"site": site, "data_dir": str(self.data.absolute()), "languages": list(languages)}
            for site, languages in self.settings.sites.items()
        ]
        spec = {
            "runs": list(runs),
            "sites": sites,
            "out_dir": str(self.out / RUNS),
            "niceness": self.niceness,
            "device": self.settings.device,
        }
        self.fs.write(f"worker-{number}.json", json.dumps(spec, indent=1).encode())
        return self.out / f"worker-{number}.json"


def tuning_name(method: Method, choice: Choice) -> str:
    """Name of a tuning run."""
    return f"tuning-{method.name}-lr-{choice.lr:g}-beta-{choice.beta:g}"


def compared_name(method: Method, seed: int) -> str:
    """Name of a compared run."""
    return f"{method.name}-{seed}"


def counted_languages(result: Document, settings: StudySettings) -> list[str]:
    """Languages that count in the average.

    Raises:
        UsageError: none has enough text.
    """
    counted = [name for name, size in result["text_bytes"].items() if size >= settings.min_language_bytes]
    if not counted:
        raise UsageError(
            f"--data: expected a language with {settings.min_language_bytes} bytes of training text or more, found "
            f"at most {max(result['text_bytes'].values())}",
            advice="Set min_language_bytes in a file for --settings.",
        )
    return sorted(counted)


def as_document(choice: Choice) -> dict[str, float]:
    """A pair for JSON."""
    return asdict(choice)


def _run(name: str, text: str, seed: int) -> Document:
    return {"name": name, "run_toml": text, "seed": seed}


def _shares(runs: Sequence[Document], num_shares: int) -> list[Sequence[Document]]:
    """Every n-th run, so that all processes get some of each method and seed."""
    return [share for number in range(num_shares) if (share := runs[number::num_shares])]
