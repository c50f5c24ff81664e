# SPDX-License-Identifier: Apache-2.0
"""What the demo trains, where its files lie, and which site holds which languages."""

import re
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.corpus import LANGUAGES
from federation.errors import ConfigError

CONSORTIUM: Final = "demo"
RUN: Final = "demo"
OPERATOR: Final = "operator"
MAX_SITES: Final = 8
CORPUS_BYTES: Final = 200_000
"""Generated text per language."""

MIN_FILE_BYTES: Final = 2048
"""Of a text file in `--data`; less gives no held-out lines."""

EVALUATION_BYTES: Final = 4096
WALL_SECONDS: Final = 1800
"""Of one job under Slurm."""

INNER_STEPS: Final = 15
BATCH_SIZE: Final = 8
SEQUENCE_LENGTH: Final = 128

_TEXT_FILE = re.compile(r"([a-z]{2,3}(?:_[A-Z][a-z]{3})?)\b[^/]*\.txt(?:\.gz)?")


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """What the user asked for.

    Attributes:
        num_sites: sites, each with languages of its own.
        num_rounds: rounds to commit.
        seed: of the generated text, theta_0 and the data order.
        data: directory of `<lang>*.txt` or `.txt.gz`, None for the generated corpus.
        slurm: the sites' jobs run under the Slurm that this user can submit to.
        partition, account: under it; "" for its defaults.
        outer_lr, outer_momentum: fit for few rounds: plain averaging. The usual defaults are for hundreds of rounds.
    """

    num_sites: int = 3
    num_rounds: int = 16
    seed: int = 0
    data: Path | None = None
    outer_lr: float = 1.0
    outer_momentum: float = 0.0
    codec: str = "int4"
    slurm: bool = False
    partition: str = ""
    account: str = ""

    def check(self) -> None:
        """Raises ConfigError with what is allowed."""
        if not 1 <= self.num_sites <= MAX_SITES:
            raise ConfigError(f"--sites: expected 1 to {MAX_SITES}, found {self.num_sites}")
        if not 1 <= self.num_rounds <= 10_000:
            raise ConfigError(f"--rounds: expected 1 to 10000, found {self.num_rounds}")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"--seed: expected 0 to {2**31 - 1}, found {self.seed}")
        if not self.slurm and (self.partition or self.account):
            raise ConfigError("--partition, --account: expected --slurm with them, found none")
        if self.slurm and shutil.which("sbatch") is None:
            raise ConfigError(
                "--slurm: expected sbatch in PATH, found none",
                advice="Run the demo on a login node of a cluster, or without --slurm.",
            )

    @property
    def site_options(self) -> tuple[str, ...]:
        """Options of `site-agent init` that say how jobs are started."""
        if not self.slurm:
            return ()
        places = ("--partition", self.partition, "--account", self.account)
        return ("--launcher", "slurm", "--wall-seconds", str(WALL_SECONDS), *places)

    @property
    def sites(self) -> tuple[str, ...]:
        """Ids of the sites, ascending."""
        return tuple(f"site-{number}" for number in range(1, self.num_sites + 1))


@dataclass(frozen=True)
class DemoPaths:
    """The documented layout of what `--keep DIR` keeps."""

    base: Path

    @property
    def root(self) -> Path:
        """The consortium's root keys."""
        return self.base / "root"

    @property
    def coordinator(self) -> Path:
        """The coordinator's directory: ledger, blobs, state."""
        return self.base / "coordinator"

    @property
    def operator(self) -> Path:
        """The operator's directory."""
        return self.base / OPERATOR

    @property
    def roster(self) -> Path:
        """The signed roster."""
        return self.base / "roster"

    @property
    def run_toml(self) -> Path:
        """Settings of the run."""
        return self.base / "run.toml"

    @property
    def model(self) -> Path:
        """theta_0."""
        return self.base / "model"

    @property
    def trained(self) -> Path:
        """The federated model, safetensors."""
        return self.base / "model.safetensors"

    @property
    def baselines(self) -> Path:
        """Specifications and results of what the federation is compared with."""
        return self.base / "baselines"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.base / "logs"

    @property
    def result(self) -> Path:
        """What `--json` prints."""
        return self.base / "result.json"

    def site(self, site: str) -> Path:
        """A site agent's directory."""
        return self.base / "sites" / site

    def data(self, site: str) -> Path:
        """A site's text."""
        return self.base / "data" / site

    def kept_checkpoint(self, site: str) -> Path:
        """The ledger checkpoint that a site keeps: an anchor from outside the coordinator's directory."""
        return self.site(site) / "state" / "ledger" / "checkpoint"


def find_texts(data: Path) -> dict[str, list[Path]]:
    """Files per language in a directory of `<lang>*.txt` or `<lang>*.txt.gz`.

    Raises:
        ConfigError: the directory is missing or holds none.
    """
    if not data.is_dir():
        raise ConfigError(f"--data: expected a directory, found {data}")
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(data.iterdir()):
        match = _TEXT_FILE.fullmatch(path.name)
        if match and path.is_file() and path.stat().st_size >= MIN_FILE_BYTES:
            found[match[1]].append(path)
    if not found:
        raise ConfigError(
            f"--data: expected files named <lang>*.txt or <lang>*.txt.gz of at least {MIN_FILE_BYTES} bytes in {data}, "
            "found none"
        )
    return dict(found)


def share_languages(sizes: Mapping[str, int], sites: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Gives every language to exactly one site: the largest first, each to the site that has least so far.

    Args:
        sizes: bytes of text per language.
        sites: ids of the sites.

    Raises:
        ConfigError: fewer languages than sites.
    """
    if len(sizes) < len(sites):
        raise ConfigError(
            f"--sites: expected at most one site per language, found {len(sites)} sites and {len(sizes)} languages"
        )
    shares: dict[str, list[str]] = {site: [] for site in sites}
    weights = dict.fromkeys(sites, 0)
    for language in sorted(sizes, key=lambda name: (-sizes[name], name)):
        site = min(sites, key=lambda name: (len(shares[name]), weights[name], name))
        shares[site].append(language)
        weights[site] += sizes[language]
    return {site: tuple(sorted(languages)) for site, languages in shares.items()}


def generated_languages() -> dict[str, int]:
    """Sizes of the generated corpus."""
    return dict.fromkeys(LANGUAGES, CORPUS_BYTES)


def run_toml(settings: DemoSettings) -> str:
    """run.toml of the demo."""
    sites = "\n".join(f'\n[[sites]]\nid = "{site}"' for site in settings.sites)
    every = max(1, settings.num_rounds // 4)
    warmup = min(20, settings.num_rounds * INNER_STEPS // 4)
    return f"""# The demo's run. Plain averaging (outer lr 1, momentum 0) suits few rounds;
# the usual defaults (0.4 to 0.8, momentum 0.9) are for hundreds of them.
[run]
id = "{RUN}"
consortium = "{CONSORTIUM}"
num_rounds = {settings.num_rounds}
evaluate_every = {every}

[schedule]
num_inner_steps = {INNER_STEPS}

[outer]
lr = {float(settings.outer_lr)}
momentum = {float(settings.outer_momentum)}

[codecs]
up = "{settings.codec}"
down = "{settings.codec}"

[quorum]
num_sites = {settings.num_sites}

[inner]
lr = 2e-3
warmup_steps = {warmup}

[model]
hidden_size = 128
intermediate_size = 448
num_layers = 4
num_heads = 4

[trainer]
name = "reference"
batch_size = {BATCH_SIZE}
sequence_length = {SEQUENCE_LENGTH}
seed = {settings.seed}
evaluation_bytes = {EVALUATION_BYTES}
{sites}
"""
