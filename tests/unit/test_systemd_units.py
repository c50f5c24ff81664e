# SPDX-License-Identifier: Apache-2.0
"""Unit files in contrib/systemd: what they start exists, what they restrict lets Slurm work, they hold no secret."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click
import pytest
from cli_words import split
from click.testing import CliRunner

from coordinator.cli.main import cli as coordinator_cli
from site_agent.cli.main import cli as site_agent_cli

CONTRIB = Path(__file__).parents[2] / "contrib" / "systemd"
UNITS = sorted(CONTRIB.glob("*/*.service"))
CLIS: dict[str, click.Group] = {"coordinator": coordinator_cli, "site-agent": site_agent_cli}
ANALYZE = shutil.which("systemd-analyze")

SECRET = re.compile(r"(?i)key|token|secret|passw|credential|BEGIN ")
SPECIFIER = re.compile(r"%(.)")
BREAKS_SLURM = frozenset(
    {
        "PrivateNetwork",
        "PrivateUsers",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectHome",
        "ProtectProc",
        "ProtectKernelTunables",
        "RestrictNamespaces",
        "SystemCallFilter",
        "MemoryDenyWriteExecute",
        "IPAddressDeny",
        "DynamicUser",
        "RootDirectory",
    }
)
"""Options that a site agent's unit must not set: submission, munge, jobs of the local launcher need what they take."""


@dataclass(frozen=True)
class Unit:
    """One unit file, read as systemd reads it: sections of keys that may come several times."""

    path: Path

    @property
    def manager(self) -> str:
        return self.path.parent.name

    @property
    def program(self) -> str:
        return Path(self.command[0]).name

    @cached_property
    def settings(self) -> list[tuple[str, str, str]]:
        """(section, key, value) in their order; comments are left out."""
        found, section = [], ""
        for line in self.path.read_text().splitlines():
            if not line or line.startswith(("#", ";")):
                continue
            if line.startswith("["):
                section = line.strip("[]")
                continue
            key, sign, value = line.partition("=")
            assert sign, f"{self.path}: expected key=value, found {line!r}"
            assert section, f"{self.path}: expected a section first, found {line!r}"
            found.append((section, key, value))
        return found

    def values(self, section: str, key: str) -> list[str]:
        return [value for where, name, value in self.settings if (where, name) == (section, key)]

    @cached_property
    def command(self) -> list[str]:
        (line,) = self.values("Service", "ExecStart")
        return shlex.split(line)

    @cached_property
    def names(self) -> set[str]:
        return {key for _, key, _ in self.settings}


def ids(unit: Unit) -> str:
    return f"{unit.manager}/{unit.path.name}"


every_unit = pytest.mark.parametrize("unit", [Unit(path) for path in UNITS], ids=ids)


def commands_of(line: list[str]) -> Iterator[tuple[click.Command, list[str]]]:
    """The command that a command line names, and what is left of the line for it."""
    command, rest = split(CLIS[Path(line[0]).name], line[1:])
    assert not isinstance(command, click.Group), f"{line}: expected a command"
    yield command, rest


def problems(line: list[str]) -> str:
    """What click says against a command line, without running it; "" if nothing does."""
    (found,) = commands_of(line)
    command, rest = found
    options = {name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts}
    unknown = [word for word in rest if word.startswith("-") and word.split("=")[0] not in options]
    if unknown:
        return f"unknown options {unknown}"
    num_arguments = sum(1 for parameter in command.params if isinstance(parameter, click.Argument))
    plain = [word for word in rest if not word.startswith("-")]
    return "" if len(plain) == num_arguments else f"expected {num_arguments} arguments, found {plain}"


def test_there_is_a_unit_for_each_role_and_manager() -> None:
    found = {(unit.manager, unit.program) for unit in map(Unit, UNITS)}
    assert found == {(manager, program) for manager in ("system", "user") for program in CLIS}


@every_unit
def test_it_starts_a_command_that_exists_with_options_that_exist(unit: Unit) -> None:
    program, *words = unit.command
    assert Path(program).name in CLIS
    assert problems(unit.command) == ""
    names = [word for word in words if not word.startswith(("-", "/", "%"))]
    result = CliRunner().invoke(CLIS[unit.program], [*names, "--help"])
    assert result.exit_code == 0, result.output
    for option in [word.split("=")[0] for word in words if word.startswith("-")]:
        assert option in result.output


def test_a_command_line_with_a_mistake_would_be_noticed() -> None:
    with pytest.raises(LookupError, match="sreve"):
        problems(["/bin/coordinator", "sreve", "%i"])
    assert "unknown options" in problems(["/bin/site-agent", "serve", "--lisen=x", "%i"])
    assert "arguments" in problems(["/bin/site-agent", "serve"])


@every_unit
def test_it_restarts_after_a_failure_but_not_after_an_operators_mistake(unit: Unit) -> None:
    assert unit.values("Service", "Restart") == ["on-failure"]
    assert unit.values("Service", "RestartPreventExitStatus") == ["2"]
    assert unit.values("Unit", "StartLimitBurst")


@every_unit
def test_it_holds_no_secret(unit: Unit) -> None:
    for _, key, value in unit.settings:
        assert "Credential" not in key
        if key in ("Environment", "EnvironmentFile", "PassEnvironment", "ExecStart"):
            assert not SECRET.search(value), f"{key}={value}"
    assert "EnvironmentFile" not in unit.names


@every_unit
def test_paths_come_from_specifiers_that_mean_what_the_reader_thinks(unit: Unit) -> None:
    used = {found for _, _, value in unit.settings for found in SPECIFIER.findall(value)}
    # In a system unit %h is root's home, whatever User= says.
    assert used <= ({"i", "S"} if unit.manager == "system" else {"i", "h"})
    assert "i" in used
    assert unit.path.stem.endswith("@")


@every_unit
def test_it_is_wanted_by_a_target_that_its_manager_has(unit: Unit) -> None:
    wanted = {"system": "multi-user.target", "user": "default.target"}
    assert unit.values("Install", "WantedBy") == [wanted[unit.manager]]
    if unit.manager == "user":
        assert not {"User", "Group", "StateDirectory"} & unit.names
        assert "network-online.target" not in unit.path.read_text()


@every_unit
def test_it_runs_without_privileges(unit: Unit) -> None:
    assert unit.values("Service", "NoNewPrivileges") == ["yes"]
    assert unit.values("Service", "UMask") == ["0077"]
    if unit.manager == "system":
        assert unit.values("Service", "User") not in ([], ["root"])
        assert unit.values("Service", "CapabilityBoundingSet") == [""]


@every_unit
def test_an_agent_can_submit_jobs_and_its_jobs_outlive_it(unit: Unit) -> None:
    if unit.program != "site-agent":
        assert unit.values("Service", "KillMode") == []
        return
    assert unit.values("Service", "KillMode") == ["process"]
    assert not BREAKS_SLURM & unit.names
    assert "strict" not in unit.values("Service", "ProtectSystem")
    assert not {"MemoryMax", "TasksMax"} & unit.names  # jobs of the local launcher would count
    (families,) = unit.values("Service", "RestrictAddressFamilies")
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= set(families.split())


@every_unit
def test_it_says_what_to_change(unit: Unit) -> None:
    comments = [line for line in unit.path.read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# Change, with `systemctl") for line in comments)
    assert max(map(len, unit.path.read_text().splitlines())) <= 120


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
@every_unit
def test_systemd_accepts_it(unit: Unit, tmp_path: Path) -> None:
    """The programs are installed elsewhere, so an instance of the unit names an executable that is here."""
    text = unit.path.read_text().replace(f"ExecStart={unit.command[0]}", f"ExecStart={sys.executable}")
    instance = tmp_path / unit.path.name.replace("@.", "@example.")
    instance.write_text(text)
    result = _verify(unit.manager, instance, tmp_path)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
def test_systemd_would_object_to_a_misspelt_setting(tmp_path: Path) -> None:
    broken = tmp_path / "broken.service"
    broken.write_text(f"[Service]\nExecStart={sys.executable}\nRestrat=on-failure\n")
    assert "Restrat" in _verify("system", broken, tmp_path).stderr


def _verify(manager: str, path: Path, runtime: Path) -> "subprocess.CompletedProcess[str]":
    assert ANALYZE is not None
    line = [ANALYZE, "verify", "--man=no", *(["--user"] if manager == "user" else []), str(path)]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "SYSTEMD_LOG_LEVEL": "warning"}
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60, env=environment)
