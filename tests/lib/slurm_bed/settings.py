# SPDX-License-Identifier: Apache-2.0
"""Configuration files of a bed."""

import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ports import free_port

CLUSTER: Final = "bed"
NODE: Final = "n1"
NUM_CPUS: Final = 4
"""What the node is said to have, whatever the machine has."""

_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom")
NUM_GPUS: Final = len(_DEVICES)
"""GPUs that are only counted: slurmd wants a device file for each, and any does."""

ACCOUNT: Final = "fed"
EMPTY_ACCOUNT: Final = "empty"
"""An account whose budget of CPU-minutes is spent."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """TCP ports on loopback."""

    controller: int
    node: int
    accounting: int


@dataclass(frozen=True, kw_only=True)
class BedSettings:
    """What a test may want otherwise.

    Attributes:
        kill_wait_seconds: between the TERM at a job's end and the KILL.
        min_job_age_seconds: how long squeue knows an ended job; real sites have 300.
        requeue_delay_seconds: how long a requeued job has to wait; 120 on a real site (the life of a credential);
            Slurm takes none below 5.
        node_timeout_seconds: after which a silent node is down.
        lines: appended to slurm.conf.
    """

    kill_wait_seconds: int = 2
    min_job_age_seconds: int = 300
    requeue_delay_seconds: int = 5
    node_timeout_seconds: int = 10
    lines: tuple[str, ...] = field(default=())


def free_ports() -> Ports:
    """Three ports that are free now."""
    return Ports(controller=free_port(), node=free_port(), accounting=free_port())


def write_configuration(directory: Path, ports: Ports, settings: BedSettings) -> None:
    """Writes munge's key, slurm.conf, gres.conf, cgroup.conf and slurmdbd.conf."""
    etc = directory / "etc"
    etc.mkdir()
    for name in ("controller", "node", "database"):
        (directory / name).mkdir()
    _write(etc / "munge.key", secrets.token_bytes(128))
    _write(etc / "slurm.conf", slurm_conf(directory, ports, settings).encode(), mode=0o644)
    _write(etc / "gres.conf", _gres_conf().encode(), mode=0o644)
    _write(etc / "cgroup.conf", b"CgroupAutomount=no\n", mode=0o644)
    _write(etc / "slurmdbd.conf", slurmdbd_conf(directory, ports).encode())


def slurm_conf(directory: Path, ports: Ports, settings: BedSettings) -> str:
    """slurm.conf of one node that is this machine."""
    host = socket.gethostname()
    lines = [
        f"ClusterName={CLUSTER}",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports.controller}",
        f"SlurmdPort={ports.node}",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        # A requeued job waits until the credential of its last start has expired.
        f"AuthInfo=socket={directory}/munge.socket,cred_expire={settings.requeue_delay_seconds}",
        f"StateSaveLocation={directory}/controller",
        f"SlurmdSpoolDir={directory}/node",
        f"SlurmctldPidFile={directory}/slurmctld.pid",
        f"SlurmdPidFile={directory}/slurmd.pid",
        # No cgroups and no MPI: works in a container.
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "JobAcctGatherType=jobacct_gather/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU",
        "SlurmdParameters=config_overrides",
        "GresTypes=gpu",
        "ReturnToService=1",
        "JobRequeue=1",
        f"KillWait={settings.kill_wait_seconds}",
        "OverTimeLimit=0",
        "EnforcePartLimits=ALL",
        f"MinJobAge={settings.min_job_age_seconds}",
        "SlurmctldTimeout=10",
        f"SlurmdTimeout={settings.node_timeout_seconds}",
        "MessageTimeout=5",
        "BatchStartTimeout=10",
        "CompleteWait=0",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=100000",
        # Budgets (GrpTRESMins) are only looked at with this plugin.
        "PriorityType=priority/multifactor",
        "PriorityDecayHalfLife=0",
        "PriorityUsageResetPeriod=YEARLY",
        "PriorityWeightQOS=1000",
        "PreemptType=preempt/qos",
        "PreemptMode=REQUEUE",
        "AccountingStorageType=accounting_storage/slurmdbd",
        "AccountingStorageHost=127.0.0.1",
        f"AccountingStoragePass={directory}/munge.socket",
        f"AccountingStoragePort={ports.accounting}",
        "AccountingStorageEnforce=associations,limits,qos",
        "AccountingStorageTRES=gres/gpu",
        f"NodeName={NODE} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={NUM_CPUS} RealMemory=1000 Gres=gpu:{NUM_GPUS}",
        f"PartitionName=batch Nodes={NODE} Default=YES DefaultTime=10 MaxTime=01:00:00 State=UP",
        f"PartitionName=short Nodes={NODE} DefaultTime=1 MaxTime=2 State=UP",
        *settings.lines,
    ]
    return "\n".join(lines) + "\n"


def _gres_conf() -> str:
    return "".join(f"NodeName={NODE} Name=gpu File={device}\n" for device in _DEVICES)


def slurmdbd_conf(directory: Path, ports: Ports) -> str:
    """slurmdbd.conf; the database is found by the socket in MYSQL_UNIX_PORT."""
    lines = [
        "AuthType=auth/munge",
        f"AuthInfo=socket={directory}/munge.socket",
        f"DbdHost={socket.gethostname()}",
        "DbdAddr=127.0.0.1",
        f"DbdPort={ports.accounting}",
        "CommunicationParameters=NoInAddrAny",
        "SlurmUser=root",
        f"PidFile={directory}/slurmdbd.pid",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",
        "StorageUser=root",
        "StorageLoc=slurm_acct",
    ]
    return "\n".join(lines) + "\n"


def _write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
