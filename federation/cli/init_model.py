# SPDX-License-Identifier: Apache-2.0
"""`federation init-model RUN.toml --out DIR`: makes the initial model of a run once, on one machine.

The trainer package does it in a process of its own, since this package imports no torch. That process gets a file of
settings (`{"model": {…}, "num_fragments": P, "seed": n, "init_from": ""}`) and the output directory, into which it
writes `theta0.safetensors` and `model.json`: the fragment table, aliases and digests that a manifest needs.
"""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, JobFailedError, UsageError
from federation.initial_model import SETTINGS_FILE
from federation.run_config import RunConfig, load_run_config, resolve

INIT_MODULE: Final = "site_agent.trainer.init"
"""Started as `python -m MODULE SETTINGS.json DIR`."""

_MAX_REPORTED_CHARS: Final = 2000


@click.command("init-model")
@click.argument("run_toml", metavar="RUN.toml", type=click.Path(path_type=Path))
@click.option("--out", "out", required=True, type=click.Path(path_type=Path), help="New directory for the model.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Of the parameters; default: trainer.seed.")
@click.option(
    "--from",
    "init_from",
    type=click.Path(path_type=Path),
    help="Take the parameters from this safetensors file of float32 tensors instead of drawing them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def init_model(run_toml: Path, out: Path, seed: int | None, init_from: Path | None, as_json: bool) -> None:
    """Make the initial model of RUN.toml and cut it into fragments.

    The directory is what `run create --init DIR` takes. No site ever draws parameters by itself: every one receives
    these.
    """
    config = load_run_config(run_toml)
    seed = config.trainer.seed if seed is None else seed
    make_initial_model(config, out, seed=seed, init_from=init_from)
    files = {path.name: path.stat().st_size for path in sorted(out.iterdir()) if path.is_file()}
    if as_json:
        click.echo(json.dumps({"directory": str(out), "seed": seed, "files": files}))
        return
    for name, size in files.items():
        click.echo(f"{out / name}  {size} bytes")


def make_initial_model(config: RunConfig, out: Path, *, seed: int, init_from: Path | None = None) -> None:
    """Makes `out` and has the trainer package fill it; on any failure nothing of it is left.

    Raises:
        UsageError: `out` is there already.
        ConfigError: the settings make no model, or the file of `init_from` is not this model.
        JobFailedError: the trainer package failed; the message ends with what it said.
    """
    parent = RealFileSystem(out.absolute().parent)
    name = out.absolute().name
    if parent.exists(name) or not parent.mkdir(name):
        raise UsageError(
            f"--out: expected the name of a new directory, found {out}",
            advice="Choose another name; an initial model is never overwritten.",
        )
    complete = False
    try:
        settings = init_settings(config, seed=seed, init_from=init_from)
        parent.write(f"{name}/{SETTINGS_FILE}", json.dumps(settings, indent=1).encode())
        _run_trainer(out.absolute())
        parent.remove(f"{name}/{SETTINGS_FILE}")
        complete = True
    finally:
        if not complete:
            parent.remove_tree(name)


def init_settings(config: RunConfig, *, seed: int, init_from: Path | None = None) -> dict[str, object]:
    """What the trainer package needs to know to make the model."""
    manifest = resolve(config)
    return {
        "model": asdict(manifest.model),
        "num_fragments": manifest.plan.num_fragments,
        "seed": seed,
        "init_from": str(init_from.absolute()) if init_from else "",
    }


def _run_trainer(out: Path) -> None:
    command = [sys.executable, "-P", "-m", INIT_MODULE, str(out / SETTINGS_FILE), str(out)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = done.stderr.strip()[-_MAX_REPORTED_CHARS:] or "nothing"
    if done.returncode == ConfigError.exit_code:
        raise ConfigError(said)
    if done.returncode:
        raise JobFailedError(
            f"init-model: expected {INIT_MODULE} to end with code 0, found {done.returncode}; it said: {said}",
            advice="It needs the packages of the extra `train`: torch, transformers, safetensors.",
        )
