# SPDX-License-Identifier: Apache-2.0
"""Ways to run an agent in contrib/: time tables, a serial job that is followed by the next one, a container."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
from cli_words import split
from crontab_syntax import parse_crontab

from site_agent.cli.main import cli

CONTRIB = Path(__file__).parents[2] / "contrib"
CRON, SCRON = CONTRIB / "cron/federation-site-agent.cron", CONTRIB / "cron/federation-site-agent.scron"
SERIAL, RECIPE = CONTRIB / "slurm/site-agent-serial.sbatch", CONTRIB / "apptainer/site-agent.def"
SBATCH = shutil.which("sbatch")

SBATCH_OPTIONS = frozenset(
    (
        *("account", "begin", "cpus-per-task", "dependency", "export", "job-name", "mem", "no-requeue", "nodes"),
        *("ntasks", "open-mode", "output", "parsable", "partition", "qos", "signal", "time"),
    )
)
"""Of sbatch(1), as far as files here may use them."""


def check_command(words: Sequence[str]) -> None:
    """A line of site-agent must name a command, options and as many arguments as click knows."""
    assert Path(words[0]).name == "site-agent", words
    command, rest = split(cli, list(words[1:]))
    assert not isinstance(command, click.Group), words
    known = {name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known, words
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    assert len([word for word in rest if not word.startswith("-")]) == len(arguments), words


def agent_words(line: str) -> list[str]:
    """The part of a shell line that is site-agent's, without redirections."""
    words = shlex.split(re.sub(r"\s(>>|>|2>).*", "", line), comments=True)
    begin = next(i for i, word in enumerate(words) if Path(word).name == "site-agent")
    return words[begin:]


@pytest.mark.parametrize("path", [CRON, SCRON, SERIAL, RECIPE], ids=lambda path: path.name)
def test_a_file_says_what_it_is_and_keeps_to_the_width(path: Path) -> None:
    text = path.read_text()
    assert "SPDX-License-Identifier: Apache-2.0" in text
    assert max(map(len, text.splitlines())) <= 120
    assert not re.search(r"(?i)BEGIN .*KEY|password|token", text)


# --- time tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CRON, SCRON], ids=lambda path: path.name)
def test_a_time_table_starts_one_pass_of_a_command_that_exists(path: Path) -> None:
    (line,) = parse_crontab(path.read_text()).lines
    words = agent_words(line.command)
    check_command(words)
    assert words[1] == "tick"


@pytest.mark.parametrize(
    "text",
    ["*/5 * * * site-agent\n", "60 * * * * a\n", "* * 0 * * a\n", "*/0 * * * * a\n", "* * * * * date +%s\n", "x"],
)
def test_a_time_table_with_a_mistake_would_be_noticed(text: str) -> None:
    with pytest.raises(ValueError):
        parse_crontab(text)


def test_cron_finds_its_programs() -> None:
    settings = parse_crontab(CRON.read_text()).settings
    assert settings["PATH"]
    assert settings["SHELL"] == "/bin/sh"


def test_slurm_gets_options_that_it_knows() -> None:
    options = parse_crontab(SCRON.read_text()).options
    assert {"--partition", "--time", "--mem"} <= {option.partition("=")[0] for option in options}
    assert {option.partition("=")[0].lstrip("-") for option in options} <= SBATCH_OPTIONS
    assert parse_crontab(CRON.read_text()).options == ()


# --- the serial job ---------------------------------------------------------------------------------------------------


def sbatch_lines() -> dict[str, str]:
    lines = [line for line in SERIAL.read_text().splitlines() if line.startswith("#SBATCH")]
    assert SERIAL.read_text().splitlines()[0] == "#!/bin/bash"
    options = [line.split()[1] for line in lines]
    assert all(len(line.split()) == 2 for line in lines)
    return {name.lstrip("-"): value for name, _, value in (option.partition("=") for option in options)}


def test_the_serial_job_asks_for_little_and_runs_alone() -> None:
    found = sbatch_lines()
    assert set(found) <= SBATCH_OPTIONS
    assert (found["nodes"], found["ntasks"], found["cpus-per-task"], found["mem"]) == ("1", "1", "1", "1G")
    assert found["dependency"] == "singleton"
    assert "no-requeue" in found
    assert re.fullmatch(r"B:TERM@[0-9]+", found["signal"])


def test_slurms_options_come_before_the_first_command() -> None:
    """sbatch reads no further."""
    lines = SERIAL.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])


def test_bash_accepts_the_serial_job() -> None:
    done = subprocess.run(["bash", "-n", SERIAL], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(SBATCH is None, reason="needs sbatch (Debian's package slurm-client)")
def test_sbatch_knows_the_options_that_files_here_use(tmp_path: Path) -> None:
    """It answers `--help` only with a configuration, whatever that says."""
    assert SBATCH is not None
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=none\nSlurmctldHost=localhost\nAuthType=auth/none\nCredType=cred/none\n")
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    said = subprocess.run([SBATCH, "--help"], capture_output=True, text=True, check=False, env=environment)
    text = said.stdout + said.stderr
    assert [option for option in sorted(SBATCH_OPTIONS) if f"--{option}" not in text] == [
        "open-mode"
    ]  # in sbatch(1) alone


GIVEN = "2:00:00        /my logs/%x.log      "
"""Wall time and log of the job, in columns."""


@dataclass
class FakeSlurm:
    """sbatch, squeue, scancel and site-agent as scripts that write down what they were asked."""

    base: Path
    waiting: str = ""
    agent: str = "exit 0"
    sbatch: str = "echo 4712"
    _process: "subprocess.Popen[str] | None" = None
    variables: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """The job begins."""
        scripts = {
            "squeue": f"case $* in *--jobs=4711*) echo '{GIVEN}' ;; *) echo {self.waiting or '-n'} ;; esac",
            "sbatch": self.sbatch,
            "scancel": "true",
            "site-agent": self.agent,
        }
        (self.base / "bin").mkdir(exist_ok=True)
        (self.base / "site/state").mkdir(parents=True, exist_ok=True)
        for name, body in scripts.items():
            path = self.base / "bin" / name
            path.write_text(f'#!/bin/bash\necho "{name} $*" >> {self.base}/asked\n{body}\n')
            path.chmod(0o755)
        path = f"{self.base}/bin:{os.environ['PATH']}"
        job = {"SLURM_JOB_NAME": "agent-of-lumi", "SLURM_JOB_ID": "4711", "SLURM_JOB_PARTITION": "serial"}
        environment = {**os.environ, "PATH": path, **job, **self.variables}
        self._process = subprocess.Popen(
            ["bash", SERIAL, self.base / "site"], env=environment, stdout=subprocess.PIPE, text=True
        )

    def end(self) -> tuple[int, str]:
        """Exit code and output."""
        assert self._process is not None
        output, _ = self._process.communicate(timeout=60)
        return self._process.returncode, output

    def term(self) -> None:
        """What Slurm does three minutes before the end of the wall time: the batch shell alone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    @property
    def asked(self) -> list[str]:
        found = self.base / "asked"
        return found.read_text().splitlines() if found.exists() else []

    def of(self, name: str) -> list[str]:
        return [line for line in self.asked if line.split()[0] == name]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_successor_is_submitted_before_the_agent_starts(tmp_path: Path) -> None:
    slurm = FakeSlurm(base=tmp_path, variables={"SLURM_JOB_ACCOUNT": "eu_42"})
    slurm.start()
    code, output = slurm.end()
    assert code == 0
    assert [line.split()[0] for line in slurm.asked] == ["squeue", "squeue", "sbatch", "site-agent"]
    (sbatch,) = slurm.of("sbatch")
    words = shlex.split(sbatch)
    assert {
        "--job-name=agent-of-lumi",
        "--partition=serial",
        "--account=eu_42",
        "--begin=now+5minutes",
        "--time=2:00:00",
    } <= set(words)
    assert "--output=/my logs/%x.log" in sbatch
    assert {word.partition("=")[0].lstrip("-") for word in words if word.startswith("--")} <= SBATCH_OPTIONS
    kept = tmp_path / "site/state/site-agent-serial.sbatch"
    assert words[-2:] == [str(kept), str(tmp_path / "site")]
    assert kept.read_text() == SERIAL.read_text()
    check_command(shlex.split(slurm.of("site-agent")[0]))
    assert "followed by job 4712" in output


def test_jobs_do_not_pile_up(tmp_path: Path) -> None:
    slurm = FakeSlurm(base=tmp_path, waiting="4709")
    slurm.start()
    code, output = slurm.end()
    assert code == 0
    assert slurm.of("sbatch") == []
    assert "followed by job 4709" in output


def test_an_agent_runs_even_if_nothing_can_be_submitted(tmp_path: Path) -> None:
    slurm = FakeSlurm(base=tmp_path, sbatch="exit 1")
    slurm.start()
    code, output = slurm.end()
    assert code == 0
    assert slurm.of("site-agent")
    assert "sbatch failed" in output


def test_slurms_signal_reaches_the_agent_which_ends_well(tmp_path: Path) -> None:
    agent = f"trap 'sleep 0.2; echo stopped >> {tmp_path}/asked; exit 0' TERM\necho ready >> {tmp_path}/asked\n"
    slurm = FakeSlurm(base=tmp_path, agent=agent + "while true; do sleep 0.05; done")
    slurm.start()
    until(lambda: "ready" in slurm.asked)
    slurm.term()
    assert slurm.end()[0] == 0
    assert slurm.asked[-1] == "stopped"
    assert slurm.of("scancel") == []


@pytest.mark.parametrize(("code", "cancelled"), [(2, ["scancel 4712"]), (1, []), (137, [])])
def test_an_operators_mistake_ends_the_chain_and_a_failure_does_not(
    tmp_path: Path, code: int, cancelled: list[str]
) -> None:
    slurm = FakeSlurm(base=tmp_path, agent=f"exit {code}")
    slurm.start()
    assert slurm.end()[0] == code
    assert slurm.of("scancel") == cancelled


# --- the container ----------------------------------------------------------------------------------------------------

SECTIONS = {"arguments", "files", "post", "environment", "runscript", "test", "labels", "help"}


def recipe() -> tuple[dict[str, str], dict[str, str]]:
    """Header and sections of the definition, comments left out."""
    header: dict[str, str] = {}
    sections: dict[str, str] = {}
    name = ""
    for line in RECIPE.read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].split()[0]
            assert name not in sections, name
            sections[name] = ""
        elif name:
            sections[name] += line + "\n"
        elif line and not line.startswith("#"):
            key, colon, value = line.partition(": ")
            assert colon, line
            header[key] = value
    return header, sections


def test_the_recipe_has_the_sections_that_apptainer_knows() -> None:
    header, sections = recipe()
    assert set(header) == {"Bootstrap", "From"}
    assert set(sections) == SECTIONS
    assert header["From"].startswith("python:3.1")


@pytest.mark.parametrize("section", ["post", "environment", "runscript", "test"])
def test_shells_accept_its_scripts(section: str) -> None:
    done = subprocess.run(["sh", "-n"], input=recipe()[1][section], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_holds_the_agent_and_no_training_library() -> None:
    _, sections = recipe()
    assert "torch" not in "".join(sections.values())
    assert "[train]" not in sections["post"]
    assert sections["runscript"].split() == ["exec", "site-agent", '"$@"']
    prefix = "/opt/hpc-federation/venv"
    assert f"python -m venv {prefix}" in sections["post"]
    assert f"PATH={prefix}/bin:" in sections["environment"]


def test_what_it_explains_exists() -> None:
    text = RECIPE.read_text()
    (line,) = re.findall(r"site-agent\.sif (serve [^\n]*)", text)
    check_command(["site-agent", *line.split()])
    for example in recipe()[1]["help"].partition("example: ")[2].rstrip(".\n ").split(", "):
        check_command(["site-agent", *example.split()])
    defaults = dict(line.split("=") for line in recipe()[1]["arguments"].split())
    assert set(re.findall(r"\{\{ (\w+) \}\}", text)) == set(defaults)
