# SPDX-License-Identifier: Apache-2.0
"""The jobs of benchmarks: noise that differs, payloads that decode, a gate that waits for everybody."""

import threading
from pathlib import Path

import numpy as np
import pytest

from federation.bench.pool import write_pool
from federation.chunks import CHUNK_ELEMENTS
from federation.codecs.payload import decode_vector, payload_bytes
from federation.codecs.registry import get_codec, uplink_names
from federation.fragments import build_fragments
from site_agent.bench.replay import Replay
from site_agent.bench.spec import BenchSpec, Gate
from site_agent.bench.trainer import NOISE_ELEMENTS, NoiseTrainer

SPEC = BenchSpec(events="", gate="", num_sites=2)


def values_of(trainer: NoiseTrainer) -> np.ndarray:
    return np.concatenate([shard.tensor.reshape(-1).numpy().copy() for shard in trainer.local_shards()])


def trainer_of(site: str, size: int = 4000) -> NoiseTrainer:
    tables = build_fragments([("h.0.weight", (size, 1)), ("h.1.weight", (7,))], 1)
    return NoiseTrainer(tables, 64, SPEC, site)


def test_every_parameter_moves_by_noise() -> None:
    trainer = trainer_of("lumi", NOISE_ELEMENTS + 5)
    assert trainer.step().tokens == 64
    moved = values_of(trainer)
    assert np.count_nonzero(moved) == moved.size
    assert 0.9e-3 < float(np.std(moved)) < 1.1e-3


def test_noise_repeats_itself_but_not_at_another_site_or_step() -> None:
    one, same, other = trainer_of("lumi"), trainer_of("lumi"), trainer_of("jupiter")
    for trainer in (one, same, other):
        trainer.step()
    first = values_of(one)
    assert np.array_equal(first, values_of(same))
    assert not np.array_equal(first, values_of(other))
    one.step()
    assert not np.array_equal(values_of(one) - first, first)


def test_its_state_is_its_number_of_steps() -> None:
    one, resumed = trainer_of("lumi"), trainer_of("lumi")
    one.step()
    resumed.load_state_dict(one.state_dict())
    before = values_of(one)
    one.step()
    resumed.step()
    assert np.allclose(values_of(one) - before, values_of(resumed), atol=1e-9)


@pytest.mark.parametrize("num_elements", [100, 4096, 3 * 4096 + 5, 5 * CHUNK_ELEMENTS + 77])
@pytest.mark.parametrize("codec_name", uplink_names())
def test_replayed_payloads_decode_and_differ(tmp_path: Path, codec_name: str, num_elements: int) -> None:
    codec, pool = get_codec(codec_name), write_pool(tmp_path / "pool", codec_name, num_elements, 1e-3)
    size = payload_bytes(codec, num_elements)
    payloads = set()
    for index in range(2):
        replay = Replay.__new__(Replay)
        replay._spec = BenchSpec(
            events="",
            gate="",
            num_sites=2,
            index=index,
            pool=str(pool.blocks),
            block_bytes=pool.block_bytes,
            tail=str(pool.tail or ""),
        )
        for number in range(2):
            payload = b"".join(replay._parts(number, size))
            assert len(payload) == size
            assert np.isfinite(decode_vector(codec, num_elements, payload)).all()
            payloads.add(payload)
    if num_elements > 5 * CHUNK_ELEMENTS:
        assert len(payloads) == 4


class Waiting:
    """Sites that wait for round 0 at a gate of two, each on a thread."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.passed = directory, list[str]()
        self.threads: list[threading.Thread] = []

    def come(self, site: str) -> None:
        def wait() -> None:
            gate = Gate(self.directory, site, 2)
            gate.wait_for_leave(0, lambda: False)
            gate.wait_for_others(0, lambda: False)
            self.passed.append(site)

        self.threads.append(threading.Thread(target=wait, daemon=True))
        self.threads[-1].start()

    def after(self, seconds: float) -> list[str]:
        for thread in self.threads:
            thread.join(seconds)
        return sorted(self.passed)


def test_the_gate_waits_for_every_site(tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text("1")
    waiting = Waiting(tmp_path)
    waiting.come("a")
    assert waiting.after(0.1) == []
    waiting.come("b")
    assert waiting.after(10.0) == ["a", "b"]


def test_the_gate_waits_for_leave(tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text("0")
    waiting = Waiting(tmp_path)
    waiting.come("a")
    waiting.come("b")
    assert waiting.after(0.1) == []
    # As the benchmark does it: a file is replaced, nobody reads half of one.
    (tmp_path / "new").write_text("1")
    (tmp_path / "new").replace(tmp_path / "allowed")
    assert waiting.after(10.0) == ["a", "b"]


def test_who_is_asked_to_end_does_not_wait(tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text("0")
    Gate(tmp_path, "a", 2).wait_for_leave(0, lambda: True)
    Gate(tmp_path, "a", 2).wait_for_others(0, lambda: True)
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["a.asks", "a.stepped"]
