# SPDX-License-Identifier: Apache-2.0
"""Start, stop and use of a bed."""

import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from slurm_bed.daemons import Daemons, SlurmBedError, becomes, end_all_with
from slurm_bed.settings import ACCOUNT, CLUSTER, EMPTY_ACCOUNT, NODE, BedSettings, free_ports, write_configuration

START_SECONDS: Final = 60.0
COMMAND_SECONDS: Final = 60.0
_COMMANDS: Final = ("munged", "mariadbd", "mariadb", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct", "setpriv")
_FOREIGN: Final = ("SLURM", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SRUN_", "MYSQL_")
_SILENT: Final = ("*", "unknown", "not_responding")
_CLOSED: Final = (*_SILENT, "down", "fail", "drain", "inval")


def why_not() -> str:
    """Why no bed can be made here, "" if one can."""
    missing = [name for name in _COMMANDS if shutil.which(name, path=_search_path()) is None]
    if missing:
        return f"needs {', '.join(missing)} (packages slurm-wlm, slurmdbd, munge, mariadb-server)"
    return "" if os.geteuid() == 0 else "needs root: slurmd starts jobs as their users"


class SlurmBed:
    """A Slurm in a directory of its own.

    Args:
        directory: where everything lies; short, since sockets are in it (a path of a socket has at most 107 bytes).
        settings: timers and additional lines of slurm.conf.
        attached: daemons end with the process that started them, even when that is killed.
    """

    cluster: Final = CLUSTER
    node: Final = NODE
    account: Final = ACCOUNT
    empty_account: Final = EMPTY_ACCOUNT

    def __init__(self, directory: Path, settings: BedSettings | None = None, *, attached: bool = True) -> None:
        self.directory = directory.absolute()
        self._settings = settings or BedSettings()
        self._daemons = Daemons(self.directory, attached=attached)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make every command of Slurm speak to this bed; slurm.conf names the munge socket."""
        return {"SLURM_CONF": str(self.directory / "etc" / "slurm.conf")}

    def start(self) -> None:
        """Makes the configuration and starts everything; returns when the node is idle.

        Raises:
            SlurmBedError: a daemon did not come up; with the ends of the logs.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        write_configuration(self.directory, free_ports(), self._settings)
        try:
            self._start_keys()
            self._start_database()
            self.start_accounting()
            self._make_accounts()
            self.start_controller()
            self.start_node()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> list[str]:
        """Ends jobs and daemons; returns the command lines of what was still there and had to be killed."""
        for name in ("slurmctld", "slurmd", "slurmdbd", "mariadbd", "munged"):
            self._daemons.stop(name)
        return end_all_with("SLURM_CONF", self.environment["SLURM_CONF"])

    def run(self, argv: Sequence[str], *, check: bool = True, **options: object) -> "subprocess.CompletedProcess[str]":
        """Runs a command with the bed's environment.

        Raises:
            SlurmBedError: it ended with another status than 0 and `check` is set.
        """
        keywords: dict[str, object] = {"timeout": COMMAND_SECONDS, "cwd": self.directory, **options}
        result: subprocess.CompletedProcess[str] = subprocess.run(  # type: ignore[call-overload]
            list(argv), env=self.full_environment, capture_output=True, text=True, check=False, **keywords
        )
        if check and result.returncode:
            said = (result.stdout + result.stderr).strip()
            raise SlurmBedError(f"{' '.join(argv)}: expected status 0, found {result.returncode}: {said}")
        return result

    @property
    def full_environment(self) -> dict[str, str]:
        """This process's environment, without what belongs to another Slurm, and with the bed's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return {**kept, "PATH": _search_path(), **self.environment}

    def wait_for(self, condition: Callable[[], object], seconds: float, what: str = "the condition") -> None:
        """Waits until a condition is true. Raises SlurmBedError, with the logs' ends, after `seconds`."""
        if not becomes(condition, seconds):
            raise SlurmBedError(
                f"expected {what} within {seconds:g} s, found\n{self._shown()}\n{self._daemons.tails()}"
            )

    def drain_node(self, reason: str = "maintenance") -> None:
        """No job starts on the node any more; the running ones go on."""
        self.run(["scontrol", "update", f"nodename={NODE}", "state=drain", f"reason={reason}"])

    def resume_node(self) -> None:
        """The node takes jobs again."""
        # Refused where there is nothing to resume.
        self.run(["scontrol", "update", f"nodename={NODE}", "state=resume"], check=False)
        self.wait_for(lambda: self._node_is_not(_CLOSED), START_SECONDS, "a node that takes jobs")

    def fail_node(self, reason: str = "broken") -> None:
        """The node is declared down: its jobs end with NODE_FAIL, or are requeued."""
        self.run(["scontrol", "update", f"nodename={NODE}", "state=down", f"reason={reason}"])

    def node_state(self) -> str:
        """The node's state in words: "idle", "mixed", "idle+drain", "down"…; with "*" for one that doesn't answer."""
        # Not by sinfo: for as long as a restarted controller runs it may call an idle node mixed.
        shown = self.run(["scontrol", "--oneliner", "show", "node", NODE]).stdout
        found = re.search(r" State=(\S+)", shown)
        return found[1].lower() if found else ""

    def requeue(self, job: str) -> None:
        """Puts a running job back into the queue, under the same id."""
        self.run(["scontrol", "requeue", job])

    def cancel(self, job: str, *options: str) -> None:
        """Cancels a job."""
        self.run(["scancel", *options, job])

    def cancel_all(self) -> None:
        """Cancels every job and waits until none is left in the queue."""
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.run(["scancel", "--user", user])
        self.wait_for(lambda: not self._queue(), START_SECONDS, "an empty queue")

    def recover(self) -> None:
        """Starts what a test stopped, empties the queue and lets the node take jobs again."""
        running = self._daemons.running
        if "slurmdbd" not in running:
            self.start_accounting()
        if "slurmctld" not in running:
            self.start_controller()
        if "slurmd" not in running:
            self.start_node()
        self.cancel_all()
        if self.node_state() != "idle":
            self.resume_node()
        self.wait_for(lambda: self.node_state() == "idle", START_SECONDS, "an idle node")

    def submit(self, script: str, *options: str) -> str:
        """Submits a shell script with these options of sbatch; returns the job's id."""
        text = f"#!/bin/bash\n{script}\n"
        return self.run(["sbatch", "--parsable", *options], input=text).stdout.strip()

    def state(self, job: str) -> str:
        """The controller's word for a job, ended ones too; "" if it knows no such job."""
        return self._asked(job, "%T", check=False)

    def reason(self, job: str) -> str:
        """Why a job waits, or ended, in the controller's words."""
        return self._asked(job, "%r")

    def _asked(self, job: str, form: str, *, check: bool = True) -> str:
        argv = ["squeue", "--noheader", "--states=all", f"--jobs={job}", f"--format={form}"]
        return self.run(argv, check=check).stdout.strip()

    def accounted(self, *options: str, fields: str = "JobID,State") -> list[list[str]]:
        """Lines of sacct, each split into its fields; jobs only, no steps."""
        argv = ["sacct", "--noheader", "--parsable2", "--allocations", f"--format={fields}", *options]
        return [line.split("|") for line in self.run(argv).stdout.splitlines()]

    def start_accounting(self) -> None:
        """Starts slurmdbd."""
        socket = {"MYSQL_UNIX_PORT": str(self.directory / "mariadb.socket")}
        self._daemons.start("slurmdbd", ["slurmdbd", "-D"], self.full_environment | socket)
        self._wait_for_answer("slurmdbd", ["sacctmgr", "--noheader", "list", "cluster"])

    def stop_accounting(self) -> None:
        """slurmdbd is gone: sacct fails; slurmctld goes on, and remembers what it could not tell."""
        self._daemons.stop("slurmdbd")

    def start_controller(self) -> None:
        """Starts slurmctld."""
        self._daemons.start("slurmctld", ["slurmctld", "-D"], self.full_environment)
        # squeue would be the surer question, but sleeps for seconds where nobody listens yet.
        self._wait_for_answer("slurmctld", ["scontrol", "ping"])

    def stop_controller(self) -> None:
        """slurmctld is gone: squeue, sbatch and scancel fail; running jobs go on."""
        self._daemons.stop("slurmctld")

    def start_node(self) -> None:
        """Starts slurmd."""
        self._daemons.start("slurmd", ["slurmd", "-D"], self.full_environment)
        self.wait_for(lambda: self._node_is_not(_SILENT), START_SECONDS, "a node that answers")

    def kill_node(self) -> None:
        """slurmd is gone, the jobs on the node go on: Slurm sees a node that doesn't answer."""
        self._daemons.kill("slurmd")

    def crash_node(self) -> None:
        """The node is gone and everything that ran on it: slurmd, the steps' shepherds, the jobs' processes."""
        self.kill_node()
        mine = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        for entry in Path("/proc").iterdir():
            variables = _read(entry / "environ").split(b"\0") if entry.name.isdecimal() else []
            is_of_a_job = any(variable.startswith(b"SLURM_JOB_ID=") for variable in variables)
            if mine in variables and (is_of_a_job or _read(entry / "cmdline").startswith(b"slurmstepd")):
                with suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)

    def _node_is_not(self, words: Sequence[str]) -> bool:
        state = self.node_state()
        return bool(state) and not any(word in state for word in words)

    def _start_keys(self) -> None:
        paths = {
            "socket": "munge.socket",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
            "seed-file": "munge.seed",
        }
        options = [f"--{name}={self.directory / file}" for name, file in paths.items()]
        key = self.directory / "etc" / "munge.key"
        # --force: a temporary directory is not owned by root all the way up.
        argv = ["munged", "--foreground", "--force", "--num-threads=4", f"--key-file={key}", *options]
        self._daemons.start("munged", argv, self.full_environment)
        self._wait_for_answer("munged", ["munge", "--no-input", f"--socket={self.directory / 'munge.socket'}"])

    def _start_database(self) -> None:
        socket = self.directory / "mariadb.socket"
        # Nothing here has to survive a power cut.
        settings = ["--innodb-flush-method=nosync", "--innodb-flush-log-at-trx-commit=0", "--sync-frm=0"]
        settings += ["--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M"]
        # A server that starts removes what it takes for its own left-over tables: beds must not share that directory.
        scratch = self.directory / "database-scratch"
        scratch.mkdir(exist_ok=True)
        data = ["--no-defaults", "--user=root", f"--datadir={self.directory / 'database'}", f"--tmpdir={scratch}"]
        if not (self.directory / "database" / "mysql").exists():  # slurmdbd keeps a stored procedure in a system table
            self.run(["mariadb-install-db", *data, "--skip-test-db", "--auth-root-authentication-method=normal"])
        argv = ["mariadbd", *data]
        # No grant tables: only who may enter the directory of the socket can ask, and no password has to be made.
        argv += [f"--socket={socket}", "--skip-networking", "--skip-grant-tables", *settings]
        self._daemons.start("mariadbd", argv, self.full_environment)
        client = ["mariadb", "--no-defaults", f"--socket={socket}"]
        self._wait_for_answer("mariadbd", [*client, "--execute=select 1"])

    def _make_accounts(self) -> None:
        user = pwd.getpwuid(os.geteuid()).pw_name
        self._account_commands(
            f"add cluster {CLUSTER}",
            f"add account {ACCOUNT},{EMPTY_ACCOUNT} cluster={CLUSTER}",
            f"modify account {EMPTY_ACCOUNT} set GrpTRESMins=cpu=0",
            "add qos urgent preempt=normal priority=100",
        )
        # Another process: one that is there already doesn't know the new QOS.
        self._account_commands(
            f"add user {user} account={ACCOUNT},{EMPTY_ACCOUNT} cluster={CLUSTER}",
            f"modify user {user} set qos=normal,urgent defaultqos=normal",
            f"modify user {user} set defaultaccount={ACCOUNT}",
        )

    def _account_commands(self, *commands: str) -> None:
        self.run(["sacctmgr", "--immediate", "--quiet"], input="\n".join((*commands, "quit", "")))

    def _wait_for_answer(self, name: str, argv: Sequence[str]) -> None:
        said = ""

        def answers() -> bool:
            nonlocal said
            if name not in self._daemons.running:
                raise SlurmBedError(f"{name}: expected a running daemon, found that it ended\n{self._daemons.tails()}")
            result = self.run(argv, check=False)
            said = result.stderr.strip()
            return result.returncode == 0

        if not becomes(answers, START_SECONDS):
            found = f"{argv[0]} said {said!r}\n{self._daemons.tails()}"
            raise SlurmBedError(f"{name}: expected an answer within {START_SECONDS:g} s, found: {found}")

    def _shown(self) -> str:
        questions = (["squeue", "--states=all"], ["scontrol", "--oneliner", "show", "node", NODE])
        return "\n".join(self.run(argv, check=False).stdout for argv in questions)

    def _queue(self) -> str:
        return self.run(["squeue", "--noheader"], check=False).stdout.strip()


@contextmanager
def slurm_bed(directory: Path, settings: BedSettings | None = None) -> Iterator[SlurmBed]:
    """A running Slurm in `directory`, which should be empty; ended afterwards, with all its jobs."""
    bed = SlurmBed(directory, settings)
    bed.start()
    try:
        yield bed
    finally:
        bed.stop()


def _search_path() -> str:
    path = os.environ.get("PATH", os.defpath)
    missing = [each for each in ("/usr/sbin", "/sbin") if each not in path.split(os.pathsep)]
    return os.pathsep.join([path, *missing])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
