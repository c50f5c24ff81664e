# SPDX-License-Identifier: Apache-2.0
"""What the kernels compile to for CUDA and ROCm, without a device: IEEE operations only, one read and one write.

Equality under the interpreter shows that the kernels say what the reference says; this shows that compilers keep it.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

triton = pytest.importorskip("triton", reason="Triton is not installed")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from federation.codecs_device import kernels, launch  # noqa: E402

CUDA = [GPUTarget("cuda", 80, 32), GPUTarget("cuda", 90, 32)]
ROCM = [GPUTarget("hip", "gfx90a", 64), GPUTarget("hip", "gfx942", 64)]
FORMATS = {"int4": {"LARGEST": 7, "BITS": 4}, "int8": {"LARGEST": 127, "BITS": 8}}

FLOATS = "*fp32"
ENCODE = {
    "theta": FLOATS,
    "local": FLOATS,
    "feedback": FLOATS,
    "beta": "fp32",
    "words": "*i16",
    "feedback_out": FLOATS,
    "status": "*i32",
    "num_elements": "i64",
}
APPLY = {
    "words": "*i16",
    "theta": FLOATS,
    "theta_out": FLOATS,
    "local": FLOATS,
    "alpha": "fp32",
    "status": "*i32",
    "num_elements": "i64",
}
VECTORS_PER_THREAD = launch.BLOCKS_PER_PROGRAM * 128 // (launch.OPTIONS["num_warps"] * 32 * 4)

Compile = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "triton"))


def compiled(kernel: Any, signature: dict[str, str], target: GPUTarget, *, whole: bool = True, **constants: Any) -> Any:
    """Every stage by name. `whole`: as Triton specialises it where the number of elements is a multiple of 16."""
    constants |= {"BLOCKS": launch.BLOCKS_PER_PROGRAM}
    types = {**signature, **dict.fromkeys(constants, "constexpr")}
    aligned = {name for name, kind in signature.items() if kind.startswith("*")} | (
        {"num_elements"} if whole else set()
    )
    hints = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name in aligned}
    source = ASTSource(kernel, types, constexprs=constants, attrs=hints)
    return triton.compile(source, target=target, options=dict(launch.OPTIONS)).asm


encoder = partial(compiled, kernels.encode_kernel, ENCODE, HAS_FEEDBACK=True)
applier = partial(compiled, kernels.apply_kernel, APPLY, HAS_LOCAL=True)

on_cuda = pytest.mark.parametrize("target", CUDA, ids=lambda target: f"sm_{target.arch}")
on_rocm = pytest.mark.parametrize("target", ROCM, ids=lambda target: target.arch)
both_formats = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
both_kernels = pytest.mark.parametrize("build", [encoder, applier], ids=["encode", "apply"])
any_size = pytest.mark.parametrize("whole", [True, False], ids=["whole", "ragged"])


@on_cuda
@both_formats
@both_kernels
@any_size
def test_ptx_rounds_every_operation_to_nearest(build: Compile, target: GPUTarget, form: Any, whole: bool) -> None:
    ptx = build(target, whole=whole, **form)["ptx"]
    operations = Counter(re.findall(r"\b(?:add|sub|mul|div|fma|mad|rcp|sqrt|ex2)\.[a-z0-9.]*f32\b", ptx))
    allowed = {"add.rn.f32", "sub.rn.f32", "mul.rn.f32"} | ({"div.rn.f32"} if build is encoder else set())
    assert set(operations) == allowed
    assert ".ftz" not in ptx
    assert ".local" not in ptx


@on_cuda
@both_formats
def test_ptx_divides_once_per_element_and_once_per_block(target: GPUTarget, form: Any) -> None:
    ptx = encoder(target, **form)["ptx"]
    per_block = launch.BLOCKS_PER_PROGRAM // launch.OPTIONS["num_warps"]
    assert ptx.count("div.rn.f32") == 4 * VECTORS_PER_THREAD + per_block


@on_cuda
@both_formats
def test_elements_are_read_once_and_written_once_as_vectors(target: GPUTarget, form: Any) -> None:
    encode, apply = encoder(target, **form)["ptx"], applier(target, **form)["ptx"]
    assert encode.count("ld.global.v4.b32") == 3 * VECTORS_PER_THREAD
    assert encode.count("st.global.v4.b32") == VECTORS_PER_THREAD
    assert apply.count("ld.global.v4.b32") == 2 * VECTORS_PER_THREAD
    assert apply.count("st.global.v4.b32") == 2 * VECTORS_PER_THREAD
    assert "ld.global.b32" not in encode + apply


@on_cuda
@both_formats
def test_machine_code_of_apply_has_no_fused_multiply_add(target: GPUTarget, form: Any, tmp_path: Any) -> None:
    cubin = tmp_path / "apply.cubin"
    cubin.write_bytes(applier(target, **form)["cubin"])
    code = subprocess.run(
        [triton.knobs.nvidia.nvdisasm.path, "-c", cubin], check=True, capture_output=True, text=True
    ).stdout
    assert "FMUL" in code
    assert "FADD" in code
    assert "FFMA" not in code
    assert ".FTZ" not in code


@on_rocm
@both_formats
@both_kernels
@any_size
def test_rocm_keeps_every_operation(build: Compile, target: GPUTarget, form: Any, whole: bool) -> None:
    stages = build(target, whole=whole, **form)
    ir, code = stages["llir"], stages["amdgcn"]
    flags = set(re.findall(r"= f(?:add|sub|mul|div|neg)((?: [a-z]+)*?) (?:<|float)", ir))
    assert flags <= {"", " nnan"}
    assert not re.search(r"llvm\.(fma|fmuladd)", ir)
    assert "!fpmath" not in ir
    assert bool(re.search(r"= fdiv", ir)) == (build is encoder)
    assert '"denormal-fp-math-f32"="ieee"' in ir
    assert re.search(r"\.amdhsa_float_denorm_mode_32 3\b", code)
    assert re.search(r"\.amdhsa_float_round_mode_32 0\b", code)
    assert re.search(r"\.vgpr_spill_count: +0\b", code)


@on_rocm
@both_formats
def test_rocm_fuses_only_inside_of_divisions(target: GPUTarget, form: Any) -> None:
    fused = re.compile(r"\bv_(?:pk_)?(?:fma|fmac|mac|mad)_f32")
    assert not fused.search(applier(target, **form)["amdgcn"])
    code = encoder(target, **form)["amdgcn"]
    # A correctly rounded division: scale, five multiply-adds, div_fmas and fixup (LLVM, AMDGPU fdiv32).
    assert len(fused.findall(code)) == 5 * len(re.findall(r"\bv_div_fixup_f32", code))
