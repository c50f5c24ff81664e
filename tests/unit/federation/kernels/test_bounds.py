# SPDX-License-Identifier: Apache-2.0
"""No kernel reads or writes outside of its vectors, whatever the bytes say: run once with numba's bounds checks."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import numpy as np
from federation.codecs.registry import codec_names, get_codec
from federation.errors import FederationError
from federation.golden import inputs
from federation.kernels import api
from federation.kernels.compiled import BITS, FLOATS_IN, compiled

@compiled(BITS, FLOATS_IN)
def behind_the_end(x):
    return x[x.size]

try:
    behind_the_end(np.zeros(3, np.float32))
    raise SystemExit("bounds are not checked")
except IndexError:
    pass

rng = np.random.default_rng(1)
refused = 0
for name in codec_names():
    codec = get_codec(name)
    for size in (1, 63, 64, 127, 128, 129, 4095, 4096, 4097, 9000):
        out = np.empty(size, np.float32)
        raws = [np.full(codec.num_blocks(size) * codec.bytes_per_block, byte, np.uint8) for byte in (0, 0xFF, 0x88)]
        nans, zeros = np.full(size, np.nan, np.float32), np.zeros(size, np.float32)
        for x in (inputs.usual(1, size), inputs.wide(2, size), nans, zeros):
            raw = np.zeros_like(raws[0])
            try:
                api.encode_into(codec, x, raw)
            except FederationError:
                refused += 1
            raws.append(raw)
        for _ in range(20):
            changed = raws[3].copy()
            changed[rng.integers(0, changed.size, 2)] = rng.integers(0, 256, 2)
            raws += [changed, rng.integers(0, 256, changed.size, np.uint8)]
        for raw in raws:
            try:
                api.decode_into(codec, raw, out)
            except FederationError:
                refused += 1
for size in (1, 1023, 1025, 5000):
    x, y, z = (inputs.usual(i, size) for i in range(3))
    out, other = np.empty_like(x), np.empty_like(x)
    api.difference_with_feedback(x, y, z, 0.95, out)
    api.add_scaled(out, 0.5, y)
    api.merge_into(x, y, 0.5, out)
    api.merge_into(x, y, 0.5, y)
    api.outer_step_into(x, y, z, 0.7, 0.9, out, other)
    api.outer_step_into(x, y, z, 0.7, 0.0, out, other)
    api.dot_add(x, y, api.new_lanes())

for name in codec_names():
    codec = get_codec(name)
    for size in (1, 129, 4097, 8192 + 4096 + 100):
        theta, local, e = (inputs.usual(i, size) for i in range(3))
        out, other, lanes = np.empty(size, np.float32), np.empty(size, np.float32), api.new_lanes()
        good = codec.encode(e)
        api.encode_difference(codec, theta, local, np.zeros_like(good))
        api.encode_difference_with_feedback(codec, theta, local, e, 0.95, np.zeros_like(good), out)
        changed = good.copy()
        changed[rng.integers(0, changed.size, 2)] = rng.integers(0, 256, 2)
        for raw in (good, changed, rng.integers(0, 256, good.size, np.uint8), np.full_like(good, 0xFF)):
            for work in (
                lambda: api.apply_to(codec, raw, theta, out),
                lambda: api.apply_and_merge(codec, raw, theta, local, 0.5, out, other),
                lambda: api.measure(codec, raw, size, lanes),
            ):
                try:
                    work()
                except FederationError:
                    refused += 1
            weights, sums, state = np.full(2, 0.5, np.float32), api.CommitSums(2), (theta, local, e)
            for held in (1, 2):
                new = tuple(np.empty((3, size), np.float32))
                api.commit(codec, codec, [good, raw], weights, state, 0.7, 0.9, new, np.zeros_like(good), sums, held)
print(refused > 500)
"""


def test_no_kernel_leaves_its_vectors(tmp_path: Path) -> None:
    # Checked code must not be kept where unchecked code is looked for.
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr
