# SPDX-License-Identifier: Apache-2.0
"""Where kernels come from: loaded late, compiled with or without a place to keep them, or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from federation.codecs.registry import codec_names
from federation.kernels import dispatch

MATCHES = """
import numpy as np
from federation.codecs.registry import codec_names, get_codec
from federation.golden import inputs
from federation.kernels import api, dispatch
for name in codec_names():
    codec, x = get_codec(name), inputs.usual(1, 4096 + 300)
    out = np.zeros(codec.num_blocks(x.size) * codec.bytes_per_block, np.uint8)
    api.encode_into(codec, x, out)
    assert out.tobytes() == codec.encode(x).tobytes()
g = inputs.usual(1, 100)
api.add_scaled(g, 0.5, inputs.usual(2, 100))
lanes = api.new_lanes()
api.dot_add(g, g, lanes)
print(dispatch.compiler() or "numpy", all(dispatch.codec_kernels(name) is not None for name in codec_names()))
"""

ONE_KERNEL = """
import numpy as np
from federation.kernels.magnitudes import largest_bits
print(largest_bits(np.float32([1, -2, 0])))
"""


def run(program: str, **environment: str) -> str:
    merged = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=merged, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_codec_has_kernels() -> None:
    assert set(dispatch._KERNELS) == set(codec_names())
    assert dispatch.compiler().startswith("numba ")


def test_other_codecs_have_none() -> None:
    assert dispatch.codec_kernels("other") is None


def test_the_compiler_is_loaded_by_the_first_call_only() -> None:
    program = "import sys, federation.kernels.api, federation.codecs.registry; print('numba' in sys.modules)"
    assert run(program) == "False"


def test_codecs_never_load_kernels() -> None:
    program = """
import sys, pkgutil, importlib, federation.codecs
for module in pkgutil.iter_modules(federation.codecs.__path__, "federation.codecs."):
    importlib.import_module(module.name)
print(any(name.startswith("federation.kernels") for name in sys.modules))
"""
    assert run(program) == "False"


def test_without_compilation_numpy_does_all_work() -> None:
    assert run(MATCHES, NUMBA_DISABLE_JIT="1") == "numpy False"


def test_without_numba_numpy_does_all_work() -> None:
    assert run("import sys\nsys.modules['numba'] = None\n" + MATCHES) == "numpy False"


def test_compiled_code_is_kept_where_the_site_says(tmp_path: Path) -> None:
    assert run(ONE_KERNEL, NUMBA_CACHE_DIR=str(tmp_path)) == str(0x40000000)
    assert list(tmp_path.rglob("*.nbc"))


def failing(method: str) -> str:
    """A program in which numba fails so when it keeps code."""
    return f"""
import errno, numba.core.caching as caching
def fail(self, *arguments):
    raise OSError(errno.ENOSPC, "no space left on device")
caching.{method} = fail
{ONE_KERNEL}
"""


@pytest.mark.parametrize("method", ["_CacheLocator.ensure_cache_path", "IndexDataCacheFile.save"])
def test_without_a_place_to_keep_code_it_is_compiled_each_time(tmp_path: Path, method: str) -> None:
    assert run(failing(method), NUMBA_CACHE_DIR=str(tmp_path)) == str(0x40000000)
    assert not list(tmp_path.rglob("*.nbc"))
