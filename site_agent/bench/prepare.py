# SPDX-License-Identifier: Apache-2.0
"""Makes a new site's directory one of a benchmark: `python -m site_agent.bench.prepare SITE_DIR THREADS CHECK_EVERY`.

site.toml gets the bench's jobs as its only trainer, policy.toml allows exactly those.
"""

import re
import sys
from pathlib import Path

from federation.durable.real import RealFileSystem
from federation.errors import FederationError
from site_agent.policy import POLICY_FILE, policy_text
from site_agent.site_config import SITE_FILE, JobSection, load_site_config, require_trainer_digests

TRAINER = "bench"
MODULE = "site_agent.bench.job"
CHECK_KEY = "check_theta_every"
"""Of `[job]`: digests of theta are checked again after every so many commits."""


def prepare(directory: Path, num_threads: int, check_every: int) -> None:
    """Rewrites both files.

    Raises:
        ConfigError: the result is no site.toml.
    """
    fs = RealFileSystem(directory)
    text = fs.read(SITE_FILE).decode()
    text = text[: text.index("[trainers.")] + f'[trainers.{TRAINER}]\nmodule = "{MODULE}"\n'
    text = re.sub(r"(?m)^num_threads = \d+", f"num_threads = {num_threads}", text)
    if CHECK_KEY in JobSection.model_fields:
        text = re.sub(rf"(?m)^{CHECK_KEY} = .*\n", "", text)
        text = text.replace("[job]\n", f"[job]\n{CHECK_KEY} = {check_every}\n")
    fs.write(SITE_FILE, text.encode())
    allowed = require_trainer_digests(load_site_config(directory).trainers)
    fs.write(POLICY_FILE, policy_text("accept", allowed).encode())


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    try:
        prepare(Path(arguments[0]), int(arguments[1]), int(arguments[2]))
    except FederationError as error:
        print(error.diagnostics(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
