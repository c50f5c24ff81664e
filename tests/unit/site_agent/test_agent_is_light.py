# SPDX-License-Identifier: Apache-2.0
"""The agent runs on login and service nodes: it loads no training libraries and stays small."""

import json
import subprocess
import sys

PROGRAM = """
import json, pathlib, re, sys
import site_agent.cli.main, site_agent.driver, site_agent.metrics.export
names = {name.partition(".")[0] for name in sys.modules}
# Not getrusage: its peak includes what the parent had resident at the fork.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())
print(json.dumps([sorted(names), int(peak[1])]))
"""
HEAVY = {"torch", "transformers", "safetensors", "zarr", "numba", "grpc", "coordinator"}


def test_the_agent_loads_no_training_library() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    names, peak_kib = json.loads(done.stdout)
    assert not HEAVY & set(names)
    assert peak_kib < 150 * 1024
