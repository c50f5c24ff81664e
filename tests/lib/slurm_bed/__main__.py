# SPDX-License-Identifier: Apache-2.0
"""`python tests/lib/slurm_bed/__main__.py start|stop|run DIR [-- COMMAND…]`: a bed that outlives the command."""

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Runs one command; returns the exit status."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from slurm_bed import SlurmBed, why_not

    arguments = _parser().parse_args()
    bed = SlurmBed(arguments.directory, attached=False)
    if arguments.action == "start":
        if reason := why_not():
            print(f"no Slurm can be started: {reason}", file=sys.stderr)
            return 2
        bed.start()
        print(f"export SLURM_CONF={bed.environment['SLURM_CONF']}")
        return 0
    if arguments.action == "run":
        command = arguments.command[arguments.command[:1] == ["--"] :]
        os.execvpe(command[0], command, bed.full_environment)
    bed.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A real single-node Slurm in a directory.")
    parser.add_argument("action", choices=("start", "stop", "run"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="of run: what is run with the bed's environment")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
