# SPDX-License-Identifier: Apache-2.0
"""A training job whose every update is zero: a real run commits with it, in an instant and without torch.

`python -m zero_job ALLOCATION_DIR`. The run has one fragment and sends fp32.
"""

import sys
from pathlib import Path

import tiny_job

from federation import wire
from federation.durable.real import RealFileSystem
from site_agent.jobs import AllocationPaths, WorkOrder, read_record


def main(directory: str) -> None:
    """Works until told to stop."""
    order = read_record(RealFileSystem(Path(directory)), AllocationPaths().order, WorkOrder)
    assert order is not None
    (table,) = wire.manifest_from_bytes(Path(order.manifest_path).read_bytes()).fragments
    tiny_job.payload_of = lambda round_number: bytes(4 * table.num_elements)
    tiny_job.main(directory)


if __name__ == "__main__":
    main(sys.argv[1])
