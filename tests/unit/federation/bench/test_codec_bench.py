# SPDX-License-Identifier: Apache-2.0
"""The codec bench: every codec has its figures, and other bytes than the reference's are no result."""

import numpy as np
import pytest
from click.testing import CliRunner

from federation.bench import codecs as bench
from federation.bench.codecs import CodecBench
from federation.cli.bench_codecs import codecs
from federation.codecs.api import ByteVector, Codec
from federation.codecs.registry import codec_names
from federation.errors import ConfigError, DigestMismatchError
from federation.kernels import api as kernels

ELEMENTS = 3 * 32_768 + 1000
FIGURES = ("encode", "encode_with_feedback", "numpy_encode", "decode_accumulate", "numpy_decode_accumulate")


def test_every_codec_has_every_figure() -> None:
    found = CodecBench(num_elements=ELEMENTS, num_samples=2).run(codec_names())
    assert tuple(found["codecs"]) == codec_names()
    assert found["copy_bytes_per_second"] > 0
    for codec in found["codecs"].values():
        assert 0 < codec["bytes_per_parameter"] < 4.01
        for name in FIGURES:
            rate, share = codec[f"{name}_bytes_per_second"], codec[f"{name}_share_of_copy"]
            assert rate > 0
            assert share == pytest.approx(rate / found["copy_bytes_per_second"])
            assert codec["spread"][name]["num_samples"] == 2


def test_speeds_count_four_bytes_an_element(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CodecBench, "_all_chunks", lambda self, work: [work(0), 0.5][1])
    found = CodecBench(num_elements=1000, num_samples=1).run(["fp32"])
    assert found["codecs"]["fp32"]["encode_bytes_per_second"] == 8000.0


def test_another_byte_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.encode_difference

    def wrong(codec: Codec, theta: np.ndarray, local: np.ndarray, out: ByteVector) -> None:
        right(codec, theta, local, out)
        out[0] ^= 1

    monkeypatch.setattr(bench.kernels, "encode_difference", wrong)
    with pytest.raises(DigestMismatchError, match="int4: payload"):
        CodecBench(num_elements=ELEMENTS, num_samples=1).run(["int4"])


def test_another_sum_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(g: np.ndarray, weight: float, y: np.ndarray) -> None:
        np.add(g, y, out=g)

    monkeypatch.setattr(bench.kernels, "add_scaled", wrong)
    with pytest.raises(DigestMismatchError, match="accumulated"):
        CodecBench(num_elements=ELEMENTS, num_samples=1).run(["bf16"])


def test_a_model_beyond_memory_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: CodecBench, names: object) -> None:
        raise MemoryError("Unable to allocate 671 GiB")

    monkeypatch.setattr(CodecBench, "run", refuse)
    result = CliRunner().invoke(codecs, ["--parameters", "90000000000"])
    assert isinstance(result.exception, ConfigError)
    assert "--parameters 90000000000" in str(result.exception)
