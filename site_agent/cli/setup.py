# SPDX-License-Identifier: Apache-2.0
"""`site-agent init`, `site-agent roster install`: making a site's directory and pinning trust in it."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from federation.durable.real import RealFileSystem
from federation.errors import ConfigError, UsageError
from federation.ids import check_slug, slug_from
from site_agent import layout
from site_agent.identity import LISTING_ADVICE, Listing, listing, load_identity
from site_agent.policy import POLICY_FILE
from site_agent.setup import DATA, KEYS, NewSite, init_site, install_roster
from site_agent.site_config import SITE_FILE, load_site_config
from site_agent.site_text import BatchChoice
from site_agent.unmade import nothing_left_behind

DIRECTORY = click.Path(file_okay=False, path_type=Path)
EXISTING_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


class SiteDirectory(click.Path):
    """A directory that `site-agent init` made; anything else is refused before a command writes there."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        require_site(path)
        return path


def require_site(path: Path) -> None:
    """Raises ConfigError if nobody made a site in that directory."""
    fs = RealFileSystem(path)
    if not fs.exists(SITE_FILE):
        found = "no such file in it" if path.is_dir() else "no such directory"
        raise ConfigError(
            f"{fs.root}: expected a site's directory, with a {SITE_FILE}, found {found}",
            advice="Name the directory that `site-agent init` made.",
        )


SITE_DIR = SiteDirectory(file_okay=False, path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.argument("site_dir", type=DIRECTORY)
@click.option(
    "--request",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where to write the request that the consortium root signs.",
)
@click.option("--site", "site_id", default=None, metavar="ID", help="Id of the site.  [default: SITE_DIR's name]")
@click.option("--profile", default="localhost", show_default=True, help="Profile of the centre.")
@click.option(
    "--data", type=DIRECTORY, default=None, help="Directory with the site's text files.  [default: SITE_DIR/data]"
)
@click.option("--languages", default="en", show_default=True, help="Languages to train and evaluate, with commas.")
@click.option(
    "--policy",
    type=click.Choice(["ask", "decline", "accept"]),
    default="ask",
    show_default=True,
    help="What becomes of manifests that policy.toml does not list; accept is for trials on one machine.",
)
@click.option(
    "--launcher", type=click.Choice(["local", "slurm"]), default="local", show_default=True, help="What starts jobs."
)
@click.option("--partition", default="", help="Under Slurm: where jobs run.")
@click.option("--account", default="", help="Under Slurm: what pays for them.")
@click.option("--qos", default="", help="Under Slurm: their quality of service.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Under Slurm: of one job.")
@click.option(
    "--wall-seconds",
    type=click.IntRange(min=0),
    default=0,
    help="Wall time of one job.  [default: 7200 under Slurm, else none]",
)
@AS_JSON
def init(
    site_dir: Path,
    request: Path,
    site_id: str | None,
    profile: str,
    data: Path | None,
    languages: str,
    policy: str,
    launcher: str,
    partition: str,
    account: str,
    qos: str,
    nodes: int,
    wall_seconds: int,
    as_json: bool,
) -> None:
    """Makes a site's configuration, policy and keys in SITE_DIR, and a request for the consortium root."""
    site = check_slug(site_id or slug_from(site_dir.resolve().name), "site id")
    _check_launcher(launcher, {"--partition": partition, "--account": account, "--qos": qos, "--nodes": nodes > 1})
    if data is not None and not data.is_dir():
        raise ConfigError(
            f"--data: expected a directory with the site's texts, found none at {data}",
            advice="Correct --data, or mount the file system.",
        )
    if request.exists():
        raise ConfigError(f"--request: expected a new file, found {request}", advice="Choose another name for it.")
    new = NewSite(
        site=site,
        profile=profile,
        data_dir=DATA if data is None else str(data.resolve()),
        languages=tuple(part.strip() for part in languages.split(",") if part.strip()),
        policy=policy,
        batch=BatchChoice(
            launcher=launcher, partition=partition, account=account, qos=qos, nodes=nodes, seconds_limit=wall_seconds
        ),
    )
    with nothing_left_behind(site_dir, (DATA, SITE_FILE, POLICY_FILE, KEYS)):
        if data is None:
            RealFileSystem(site_dir).mkdir(DATA)
        document = init_site(site_dir, new)
        RealFileSystem(request.resolve().parent).write(request.name, document)
    text = f"Made site {site} in {site_dir} and {request}. "
    text += f"Next: enroll with an invite, which hands {request.name} in, or have the consortium root sign it."
    echo({"site": site, "request": str(request)}, text, as_json)


def _check_launcher(launcher: str, options: Mapping[str, object]) -> None:
    """Raises UsageError if something is said about a batch system that is not to be used."""
    said = [name for name, value in options.items() if value]
    if launcher != "slurm" and said:
        raise UsageError(f"{said[0]}: expected --launcher slurm with it, found {launcher}")


@click.group()
def roster() -> None:
    """Root-signed rosters: who belongs to the consortium."""


@roster.command("install")
@click.argument("site_dir", type=SITE_DIR)
@click.argument("document", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--root", default="", help="Fingerprint of the consortium root; the first roster pins its own if not given."
)
@AS_JSON
def roster_install(site_dir: Path, document: Path, root: str, as_json: bool) -> None:
    """Installs a roster version; later versions come through the coordinator by themselves."""
    fs = RealFileSystem(site_dir)
    config = load_site_config(site_dir)
    load_identity(fs, config.site)
    first = not fs.exists(layout.ROOT_FILE)
    rosters = install_roster(fs, document.read_bytes(), root, time.time_ns() // 1000)
    found = listing(fs, config.site, rosters.current)
    listed = found is Listing.MEMBER
    facts = {"version": rosters.current.version, "root": rosters.fingerprint, "listed": listed}
    text = f"Roster version {rosters.current.version} is installed; consortium root {rosters.fingerprint}."
    if first and not root:
        text += "\nCompare this fingerprint with the one that the consortium gave you over another channel."
    if not listed:
        text += f"\n{LISTING_ADVICE[found]}"
    echo(facts, text, as_json)


def echo(facts: object, text: str, as_json: bool) -> None:
    """Prints one of the two."""
    click.echo(json.dumps(facts, sort_keys=True) if as_json else text)
