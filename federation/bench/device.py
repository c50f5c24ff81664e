# SPDX-License-Identifier: Apache-2.0
"""Codecs on this machine's accelerator, measured by a process of their own: only jobs import torch."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from federation.bench.figures import Document

_COMMAND: Final = (sys.executable, "-m", "federation.codecs_device")
_LIMIT_SECONDS: Final = 600.0


def device_figures(command: Sequence[str] = _COMMAND) -> Document:
    """What `federation.codecs_device.bench.device_figures` found; {"absent": why} where nothing could be measured."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"absent": f"it was not measured within {_LIMIT_SECONDS:.0f} s"}
    if done.returncode:
        return {"absent": f"its measurement failed: {(done.stderr.strip() or 'without a word').splitlines()[-1]}"}
    figures: Document = json.loads(done.stdout)
    return figures
