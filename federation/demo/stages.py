# SPDX-License-Identifier: Apache-2.0
"""The demo step by step, through the same commands that people use. Each function is one stage."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from federation import wire
from federation.corpus import write_corpus
from federation.demo.children import Child, Children, command_line
from federation.demo.settings import (
    CONSORTIUM,
    CORPUS_BYTES,
    RUN,
    DemoPaths,
    DemoSettings,
    find_texts,
    generated_languages,
    run_toml,
    share_languages,
)
from federation.durable.real import RealFileSystem
from federation.errors import DeadlineExceededError, JobFailedError, UsageError
from federation.manifest import Manifest

Document = dict[str, Any]
Say = Callable[[str], None]
EVALUATION_WAIT_SECONDS: Final = 180.0
_BASELINE_MODULE: Final = "site_agent.trainer.baseline"


@dataclass(kw_only=True)
class Demo:
    """One demo: what it was asked for, where its files are, its processes."""

    settings: DemoSettings
    paths: DemoPaths
    children: Children
    languages: dict[str, tuple[str, ...]]
    fingerprint: str = ""

    @property
    def as_operator(self) -> tuple[str, ...]:
        """Options of every command that speaks to the coordinator."""
        return ("--as", str(self.paths.operator), "--coordinator", str(self.paths.coordinator))


def give_data(settings: DemoSettings, paths: DemoPaths) -> dict[str, tuple[str, ...]]:
    """Gives each site its own languages' texts, nobody else's; returns which.

    Raises:
        ConfigError: `--data` holds no texts, or fewer languages than sites.
    """
    if settings.data is None:
        shares = share_languages(generated_languages(), settings.sites)
        for site, languages in shares.items():
            write_corpus(paths.data(site), languages, CORPUS_BYTES, settings.seed)
        return shares
    texts = find_texts(settings.data)
    sizes = {language: sum(path.stat().st_size for path in files) for language, files in texts.items()}
    shares = share_languages(sizes, settings.sites)
    for site, languages in shares.items():
        fs = RealFileSystem(paths.data(site))
        for path in (path for language in languages for path in texts[language]):
            fs.write(path.name, path.read_bytes())
    return shares


def set_up(demo: Demo) -> None:
    """Root, coordinator, operator, sites' keys, roster, theta_0: every key is made where it is used."""
    paths, run = demo.paths, demo.children.run
    RealFileSystem(paths.base).write("run.toml", run_toml(demo.settings).encode())
    run("federation", "consortium", "init", paths.root, "--consortium", CONSORTIUM)
    requests = [paths.base / f"{name}.req" for name in ("coordinator", "operator", *demo.settings.sites)]
    run("coordinator", "init", paths.coordinator, "--request", requests[0])
    run("coordinator", "operator", "init", paths.operator, "--request", requests[1])
    for site, request in zip(demo.settings.sites, requests[2:], strict=True):
        languages = ",".join(demo.languages[site])
        options: list[str | Path] = ["--data", paths.data(site), "--languages", languages, "--policy", "accept"]
        options += demo.settings.site_options
        run("site-agent", "init", paths.site(site), "--request", request, *options)
    signed = run("federation", "consortium", "sign", paths.root, *requests, "--out", paths.roster, "--json")
    demo.fingerprint = json.loads(signed)["root"]
    run("coordinator", "roster", "install", paths.coordinator, paths.roster, "--root", demo.fingerprint)
    run("federation", "init-model", paths.run_toml, "--out", paths.model)


def clear_queue(demo: Demo) -> None:
    """Nothing of the demo stays in the batch system: each site's control job is taken out."""
    for site in demo.settings.sites if demo.settings.slurm else ():
        demo.children.run("site-agent", "job", "clear", demo.paths.site(site))


def start_run(demo: Demo) -> None:
    """Creates, approves and starts the run."""
    run, options = demo.children.run, demo.as_operator
    run("coordinator", "run", "create", demo.paths.run_toml, "--init", demo.paths.model, *options)
    run("coordinator", "run", "approve", RUN, *options)
    run("coordinator", "run", "start", RUN, *options)


def watch(demo: Demo) -> Iterator[Document]:
    """The run's document again and again until the run has ended.

    Raises:
        JobFailedError: a process ended, or the run did not complete.
    """
    arguments = ("run", "watch", RUN, "--every", "0.5", "--json", *demo.as_operator)
    watcher = demo.children.start("watch", command_line("coordinator", *arguments))
    document: Document = {}
    for document in _lines(watcher.log, watcher):
        demo.children.check() if watcher.process.poll() is None else None
        yield document
        if document["state"] == "paused":
            raise JobFailedError(
                f"the run paused: {document['reason']}", advice=f"The logs in {demo.paths.logs} say more."
            )
    demo.children.wait(watcher)
    if document.get("state") != "completed":
        raise JobFailedError(f"the run ended as {document.get('state', 'unknown')}")


def _lines(log: Path, child: Child) -> Iterator[Document]:
    """JSON documents as a process writes them, a line each."""
    with log.open() as source:
        rest = ""
        while True:
            ended = child.process.poll() is not None
            rest += source.read()
            *complete, rest = rest.split("\n")
            yield from (json.loads(line) for line in complete if line.startswith("{"))
            if ended:
                return
            time.sleep(0.1)


def final_document(demo: Demo) -> Document:
    """The run with every site's scores of the final model.

    Raises:
        DeadlineExceededError: a site's scores did not come.
    """
    deadline = time.monotonic() + EVALUATION_WAIT_SECONDS
    while time.monotonic() < deadline:
        demo.children.check()
        document: Document = json.loads(
            demo.children.run("coordinator", "run", "show", RUN, "--json", *demo.as_operator)
        )
        final = {e["site"] for e in document["evaluations"] if e["commits"] == document["commits"]}
        if final >= set(demo.settings.sites):
            return document
        time.sleep(0.5)
    missing = ", ".join(sorted(set(demo.settings.sites) - final))
    raise DeadlineExceededError(f"no scores of the final model from {missing} in {EVALUATION_WAIT_SECONDS:.0f} s")


def manifest_of(demo: Demo, document: Document) -> Manifest:
    """The run's manifest."""
    digest = document["manifest_digest"]
    return wire.manifest_from_bytes((demo.paths.coordinator / "blobs" / digest[:2] / digest).read_bytes())


def start_baselines(demo: Demo, document: Document) -> dict[str, Child]:
    """Each site alone, and data parallel: same steps, same batches, same held-out text."""
    sites = {site: _site_data(demo, site) for site in demo.settings.sites}
    specs = {site: [data] for site, data in sites.items()} | {"data-parallel": list(sites.values())}
    fs = RealFileSystem(demo.paths.base)
    digest = document["manifest_digest"]
    started: dict[str, Child] = {}
    for name, members in specs.items():
        spec = {
            "name": name,
            "manifest_path": str(demo.paths.coordinator / "blobs" / digest[:2] / digest),
            "theta0_path": str(demo.paths.model / "theta0.safetensors"),
            "sites": members,
            "evaluation": list(sites.values()),
            "num_steps": demo.settings.num_rounds * manifest_of(demo, document).plan.num_inner_steps,
            "result_path": str(demo.paths.baselines / f"{name}.result.json"),
        }
        fs.write(f"baselines/{name}.json", json.dumps(spec).encode())
        argv = [*command_module(_BASELINE_MODULE), str(demo.paths.baselines / f"{name}.json")]
        started[name] = demo.children.start(f"baseline-{name}", argv)
    return started


def command_module(module: str) -> list[str]:
    """argv of a module of another package, run by this interpreter."""
    return [*command_line("federation")[:2], "-m", module]


def _site_data(demo: Demo, site: str) -> Document:
    return {"site": site, "data_dir": str(demo.paths.data(site)), "languages": list(demo.languages[site]), "seed": 0}


def baseline_scores(demo: Demo, name: str) -> dict[str, float]:
    """Bits per byte per language of a finished baseline."""
    result = json.loads((demo.paths.baselines / f"{name}.result.json").read_text())
    return {score["language"]: score["bits_per_byte"] for score in result["scores"]}


def verify_command(demo: Demo) -> list[str]:
    """The exact command line that verifies what was kept."""
    checkpoints = [
        part for site in demo.settings.sites for part in ("--checkpoint", str(demo.paths.kept_checkpoint(site)))
    ]
    program = shutil.which("federation") or "federation"
    return [program, "verify", str(demo.paths.coordinator), "--root", demo.fingerprint, *checkpoints]


def verify(demo: Demo) -> Document:
    """Runs `federation verify` on the coordinator's directory.

    Raises:
        JobFailedError: the verdict is not TRUE.
    """
    document: Document = json.loads(demo.children.run("federation", *verify_command(demo)[1:], "--json"))
    return document


def export(demo: Demo) -> None:
    """Writes the federated model beside the ledger."""
    demo.children.run("coordinator", "run", "export", RUN, "--out", demo.paths.trained, *demo.as_operator)


def new_directory(keep: Path | None, scratch: Path) -> DemoPaths:
    """The demo's directory: new or empty.

    Raises:
        UsageError: it holds something.
    """
    base = (keep or scratch).absolute()
    if base.exists() and (not base.is_dir() or any(base.iterdir())):
        raise UsageError(f"--keep: expected a new or empty directory, found {base}", advice="Choose another directory.")
    RealFileSystem(base.parent).mkdir(base.name)
    return DemoPaths(base)


def as_document(settings: DemoSettings) -> Document:
    """Settings for the result."""
    return {**asdict(settings), "data": str(settings.data) if settings.data else "generated"}
