# SPDX-License-Identifier: Apache-2.0
"""Real job processes for tests, forked from one that has imported torch already: what is killed is a real process."""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path

JOB_MODULE = "site_agent.trainer.job"


def start_job(directory: Path, environment: Mapping[str, str], errors: Path, module: str = JOB_MODULE) -> BaseProcess:
    """Starts a job module on an allocation's directory.

    Args:
        environment: variables to add.
        errors: file that gets its standard error.
        module: which one.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["site_agent.trainer.llama", "site_agent.trainer.job"])
    process = context.Process(target=_run, args=(str(directory), dict(environment), str(errors), module))
    process.start()
    return process


def _run(directory: str, environment: Mapping[str, str], errors: str, module: str) -> None:
    os.environ.update(environment)
    descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 2)
    sys.exit(import_module(module).main([directory]))
