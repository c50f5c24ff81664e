# SPDX-License-Identifier: Apache-2.0
"""Pages for operators: their commands, settings and file names exist, and are the ones that tests run."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_words import split
from notice_world import saying

from coordinator.cli.main import cli as coordinator_cli
from coordinator.exports.formats import FORMATS
from coordinator.network_config import CoordinatorConfig
from coordinator.notices.config import notification_problems
from coordinator.notices.formats import plain_json
from coordinator.notices.notice import Kind
from coordinator.notices.thresholds import Thresholds
from coordinator.run_columns import SCHEMAS
from federation.cli.main import federation
from federation.messages import AllocationState
from site_agent import doctor, doctor_findings, doctor_slurm, doctor_ways, failures
from site_agent.cli.main import cli
from site_agent.courier.grpc import way_of
from site_agent.credential_settings import CredentialEntry
from site_agent.inner_loop.last_word import EXIT_FENCED
from site_agent.launcher.slurm import waiting
from site_agent.launcher.slurm.batch import LOG_FILE, SCRIPT_FILE
from site_agent.site_config import SiteConfig

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "docs/operations" / name
    for name in (
        "network.md",
        "agent-modes.md",
        "carriers.md",
        "new-site.md",
        "slurm.md",
        "doctor.md",
        "dashboard.md",
        "notifications.md",
        "exports.md",
        "monitoring.md",
        "evaluation.md",
    )
]
PROGRAMS: dict[str, click.Command] = {"site-agent": cli, "coordinator": coordinator_cli, "federation": federation}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
NETWORK = PAGES[0].read_text()
PROGRAMS_TESTED = (ROOT / "tests/lib/network_programs.py").read_text()


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """Every command of ours in the text, as words: in backticks, and as lines of shell, which may be continued."""
    shell = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = (found.replace("\n", " ") for found in re.findall(r"`([^`]+)`", prose))
    for line in (*shell.splitlines(), *inline):
        name, _, rest = line.strip().partition(" ")
        if name in PROGRAMS and rest:
            yield shlex.split(line)


def unknown(words: list[str]) -> list[str]:
    """What of a command line does not exist: a subcommand, or options."""
    try:
        command, rest = split(PROGRAMS[words[0]], words[1:])
    except LookupError as error:
        return [*error.args]
    known = {name for p in command.params if isinstance(p, click.Option) for name in p.opts}
    return [word for word in rest if word.startswith("--") and word not in known]


@each_page
def test_its_commands_exist(page: Path) -> None:
    found = list(commands(page.read_text()))
    assert found
    for words in found:
        assert not unknown(words), words


def test_a_command_that_is_not_there_would_be_noticed() -> None:
    text = "`site-agent jobs render X` and\n```sh\nsite-agent init X \\\n  --launchr slurm\n```\n"
    assert [unknown(words) for words in commands(text)] == [["--launchr"], ["jobs"]]


def test_the_page_of_exports_has_every_column_and_format() -> None:
    text = (ROOT / "docs/operations/exports.md").read_text()
    for name, (meaning, columns) in SCHEMAS.items():
        rows = "".join(f"| `{c.name}` | {c.kind.value} | {c.unit} | {c.meaning} |\n" for c in columns)
        head = "| column | kind | unit | meaning |\n|---|---|---|---|\n"
        assert f"### {name}\n\nOne row is {meaning}.\n\n{head}{rows}" in text
    assert set(re.findall(r"^\| `([a-z]+)`(?: \(default\))? \| a (?:file|directory)", text, re.MULTILINE)) == set(
        FORMATS
    )


@each_page
def test_its_keys_of_site_toml_exist(page: Path) -> None:
    for section, key in re.findall(r"`(slurm|job|agent|courier)\.([a-z_]+)", page.read_text()):
        fields = getattr(SiteConfig.model_fields[section].annotation, "model_fields", {})
        assert key in fields or f"{section}.{key}" in (LOG_FILE, SCRIPT_FILE), f"{section}.{key}"


def test_a_new_site_needs_ten_commands_at_most() -> None:
    with_network, by_files = blocks((ROOT / "docs/operations/new-site.md").read_text(), "sh")
    for block in (with_network, by_files):
        assert 0 < len(list(commands(f"```sh\n{block}```\n"))) <= 10


OF_THEMSELVES = {"failed", "diverged", "snapshot-refused", "fenced", "stale-file-handle"}
"""Ends of jobs that the next one mends, or of which nothing is known but what the log says."""


def test_the_table_of_troubles_names_every_refusal_of_a_submission_and_every_failure_of_a_job() -> None:
    text = (ROOT / "docs/operations/new-site.md").read_text()
    table = text[text.index("| symptom |") :]
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", table))
    hindrances = {found.code for _, found in waiting._TABLE}
    assert failures.JOB.keys() - OF_THEMSELVES <= named
    known = {*failures.LAUNCH, *failures.BATCH, *failures.JOB, *hindrances}
    assert (failures.LAUNCH.keys() - {"launch-failed"}) | hindrances <= named
    assert {code for code in named if "-" in code} <= known


def test_states_and_status_are_those_of_the_program() -> None:
    text = (ROOT / "docs/operations/slurm.md").read_text()
    table = text[text.index("| state |") : text.index("## Chains")]
    assert re.findall(r"^\| ([a-z]+) \|", table, re.MULTILINE)[1:] == [state.value for state in AllocationState]
    assert f"exits with status {EXIT_FENCED}" in " ".join(text.split())


def test_the_doctors_page_names_every_check_and_every_wait() -> None:
    text = (ROOT / "docs/operations/doctor.md").read_text()
    rows = re.findall(r"^\| `([a-z -]+)` \|", text, re.MULTILINE)
    checks = ["configuration", *doctor._CHECKS, *doctor_ways.CHECKS, *doctor._NUMERICS]
    checks += ["slurm commands", *doctor_slurm._CHECKS, "test job", *doctor_findings.CHECKS]
    assert rows[: len(checks)] == checks
    assert rows[len(checks) :] == list(dict.fromkeys(found.code for _, found in waiting._TABLE))


@each_page
def test_its_files_and_links_exist(page: Path) -> None:
    text = page.read_text()
    for found in re.findall(r"`(contrib/[^`]+)`", text):
        assert (ROOT / found).exists(), found
    for found in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / found).exists(), found
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert max(len(line) for line in prose.splitlines() if not line.startswith("|")) <= 124


@pytest.mark.parametrize("block", blocks(NETWORK, "toml"))
def test_its_settings_are_taken(block: str) -> None:
    head = {"site": "lumi", "data_dir": "data", "languages": ["fi"]}
    config = SiteConfig.model_validate(head | tomllib.loads(block))
    found: list[CredentialEntry] = list(config.credentials)
    assert found or any(vars(way_of(config)).values())


def test_forwards_are_the_ones_that_are_tested() -> None:
    lines = [line for block in blocks(NETWORK, "sh") for line in block.splitlines()]
    assert [line.split()[:3] for line in lines if line.startswith("ssh")] == [["ssh", "-N", "-L"], ["ssh", "-N", "-D"]]
    (socat,) = [line for line in lines if line.startswith("socat")]
    port, socks, target = "8443", "1080", "coordinator.example.org:443"
    for template in (
        "TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr",
        "SOCKS4A:127.0.0.1:{target},socksport={socks}",
    ):
        assert template in PROGRAMS_TESTED
        assert template.format(port=port, target=target, socks=socks) in socat.split()


def test_every_notice_and_every_threshold_is_on_the_page_about_them() -> None:
    text = (ROOT / "docs/operations/notifications.md").read_text()
    told = text[text.index("| notice |") : text.index("While the coordinator")]
    first_cells = "".join(line.split("|")[1] for line in told.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([a-z-]+)`", first_cells)) == set(Kind) - {Kind.TEST}
    fields = text[text.index("| field |") :]
    named = {name for line in fields.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named == set(plain_json(saying()))
    thresholds = Thresholds()
    for words, value in (
        (r"for (\d+) times the median of the newest", thresholds.round_pace_factor),
        (r"the median of the newest (\d+)", thresholds.round_pace_rounds),
        (r"\((\d+) minutes at least\)", thresholds.round_floor_seconds / 60),
        (r"(\d+) minutes beyond", thresholds.round_overdue_seconds / 60),
        (r"ready for (\d+) hours", thresholds.no_open_seconds / 3600),
        (r"from (\d+)% of it critical", 100 * thresholds.no_open_critical_share),
        (r"for (\d+) minutes, and its witnesses", thresholds.cosignature_seconds / 60),
        (r"among the newest (\d+) rounds", thresholds.recent_rounds),
        (r"is ([\d.]+) times the median of its own", thresholds.loss_spike_ratio),
        (r"median of its own last (\d+)", thresholds.loss_history),
        (r"after (\d+) of them", thresholds.loss_least),
        (r"no word for (\d+) minutes", thresholds.silent_seconds / 60),
        (r"has used (\d+)% of its budget", thresholds.budget_percent),
        (r"from (\d+)% critical", thresholds.budget_critical_percent),
        (r"(\d+) days before it expires", thresholds.certificate_days),
        (r"(\d+) days before: those", thresholds.roster_days),
        (r"from (\d+) days critical", thresholds.roster_critical_days),
        (r"always after (\d+)% of", 100 * thresholds.round_limit_share),
        (r"and (\d+) round trips of its courier", thresholds.silent_round_trips),
        (r"no sign of life for (\d+) s", thresholds.away_seconds),
    ):
        assert [float(found) for found in re.findall(words, told)] == [value], words


def test_the_pages_notifications_are_taken() -> None:
    (block,) = blocks((ROOT / "docs/operations/notifications.md").read_text(), "toml")
    sections = CoordinatorConfig.model_validate(tomllib.loads(block)).notifications
    assert list(notification_problems(sections)) == []
